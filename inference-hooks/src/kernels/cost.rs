//! What the shaders of a kernel do to one input, counted on paper, and the least time that takes a card.

use super::Run;
use crate::hook::{Hook, HookError, Shape};
use crate::ready::ready_hooks;

/// Counted from the shaders: beside each kernel stands how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes between the memory of the card and its cores. Each pass reads what it reads once, and writes what it writes once: whatever
    /// is read again comes from a cache.
    pub memory_bytes: u64,
    /// Operations on a number of 32 bits; on a vector of four they are four, and so is what finds a place in memory.
    pub operations: u64,
    /// Bytes to the card and back.
    pub bus_bytes: u64,
}

/// What a card can do.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Bytes a second from and to its memory.
    pub memory_bytes_per_second: f64,
    /// Operations a second on numbers of 32 bits.
    pub operations_per_second: f64,
}

/// What keeps a card from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its memory.
    Memory,
    /// Its arithmetic.
    Arithmetic,
}

/// The cost of a ready hook for a typical input.
#[derive(Clone, Debug)]
pub struct TypicalCost {
    /// The hook.
    pub hook: &'static str,
    /// The input, in words.
    pub input: &'static str,
    /// What it costs.
    pub cost: Cost,
}

impl Cost {
    /// The least time in seconds, if memory and arithmetic never wait for each other, and what bounds it. Beginning a dispatch is not
    /// in it, nor the way to the card.
    pub fn floor(&self, card: Card) -> (f64, Bound) {
        let memory = self.memory_bytes as f64 / card.memory_bytes_per_second;
        let arithmetic = self.operations as f64 / card.operations_per_second;
        if memory >= arithmetic { (memory, Bound::Memory) } else { (arithmetic, Bound::Arithmetic) }
    }
}

const PICTURE: (&str, Shape) = ("a picture of 4000 x 3000", Shape::Image { size: [4000, 3000] });
const TABLE: (&str, Shape) = (
    "a table of 100,000 rows and 4 columns",
    Shape::Table { rows: 100_000, cols: 4, seconds: None },
);

/// What the ready hooks cost for a picture of 12 megapixels or a table of 100,000 rows.
///
/// # Errors
/// A ready hook that can't be read.
pub fn typical_costs() -> Result<Vec<TypicalCost>, HookError> {
    let mut costs = Vec::new();
    for ready in ready_hooks() {
        let hook = Hook::parse(ready.source())?;
        let Some(twin) = hook.cpu_twin() else { continue };
        let (input, shape) = match twin.run {
            Run::Image(_) => PICTURE,
            Run::Table(_) => TABLE,
        };
        costs.push(TypicalCost { hook: ready.name, input, cost: (twin.cost)(&hook, shape) });
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(name: &str, shape: Shape) -> Cost {
        let ready = ready_hooks().iter().find(|ready| ready.name == name).unwrap();
        let hook = Hook::parse(ready.source()).unwrap();
        (hook.cpu_twin().unwrap().cost)(&hook, shape)
    }

    fn picture(width: u32, height: u32) -> Shape {
        Shape::Image { size: [width, height] }
    }

    fn table(rows: u32, cols: u32) -> Shape {
        Shape::Table { rows, cols, seconds: None }
    }

    fn assert_times(large: u64, small: u64, low: f64, high: f64, what: &str) {
        let times = large as f64 / small as f64;
        assert!((low..=high).contains(&times), "{what}: {times}");
    }

    #[test]
    fn every_ready_hook_reads_its_input_once_at_least_and_does_something_to_all_of_it() {
        let costs = typical_costs().unwrap();
        assert_eq!(costs.len(), ready_hooks().len());
        for TypicalCost { hook, input, cost } in costs {
            let (bytes, items) = match input.contains("picture") {
                true => (48_000_000, 12_000_000),
                false => (1_600_000 + 50_000, 400_000),
            };
            assert!(cost.bus_bytes >= bytes, "{hook}: {cost:?}");
            assert!(cost.memory_bytes >= cost.bus_bytes, "{hook}: {cost:?}");
            assert!(cost.operations >= 10 * items, "{hook}: {cost:?}");
        }
    }

    #[test]
    fn costs_grow_with_the_input() {
        for name in ["sharpness", "thumbnail"] {
            let (small, large) = (cost(name, picture(1000, 800)), cost(name, picture(4000, 3200)));
            // A thumbnail stays as small as it is, and its own edges count.
            assert_times(large.operations, small.operations, 11.0, 16.5, name);
            assert_times(large.memory_bytes, small.memory_bytes, 7.0, 16.5, name);
        }
        // The reach of the blur grows as well.
        let name = "privacy-blur";
        let (small, large) = (cost(name, picture(1000, 800)), cost(name, picture(4000, 3200)));
        assert_times(large.operations, small.operations, 50.0, 64.5, name);
        assert_eq!(large.memory_bytes, 16 * small.memory_bytes);
        let name = "telemetry";
        let (small, large) = (cost(name, table(6000, 4)), cost(name, table(60_000, 4)));
        assert_times(large.operations, small.operations, 9.5, 10.5, name);
        assert_times(large.memory_bytes, small.memory_bytes, 9.5, 10.5, name);
        let timed = Shape::Table { rows: 6000, cols: 4, seconds: Some(6000.0) };
        assert!(cost(name, timed).operations > small.operations);
    }

    #[test]
    fn a_blur_of_nothing_is_a_copy() {
        let ready = ready_hooks().iter().find(|ready| ready.name == "privacy-blur").unwrap();
        let mut files = ready.source().files().clone();
        let mask = b"masks = [{ x = 0.0, y = 0.0, width = 0.1, height = 0.1 }]".to_vec();
        files.insert("params.toml".to_owned(), mask);
        let hook = Hook::parse(crate::hook::HookSource::new(files)).unwrap();
        let corner = (hook.cpu_twin().unwrap().cost)(&hook, picture(1000, 1000));
        let all = cost("privacy-blur", picture(1000, 1000));
        // The picture is read and written, and little is blurred.
        assert!((8_000_000..9_000_000).contains(&corner.memory_bytes), "{corner:?}");
        assert_times(all.operations, corner.operations, 15.0, 100.0, "whole by a hundredth");
    }

    #[test]
    fn the_floor_is_the_slower_of_the_two() {
        let card = Card { memory_bytes_per_second: 1e12, operations_per_second: 1e13 };
        let cost = Cost { memory_bytes: 1_000_000, operations: 1_000_000, bus_bytes: 0 };
        assert_eq!(cost.floor(card), (1e-6, Bound::Memory));
        let cost = Cost { operations: 100_000_000, ..cost };
        assert_eq!(cost.floor(card), (1e-5, Bound::Arithmetic));
    }
}
