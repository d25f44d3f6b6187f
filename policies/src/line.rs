//! Who passes next where several share one rate: by weight. Start-time fair queueing (Goyal, Vin and Cheng, 1996).
//!
//! Each flow has a virtual time that advances by what it passes, divided by its weight; who is furthest behind is next. A flow that has
//! nothing to pass gives its share to the others and saves nothing up.

use std::collections::{BTreeMap, BTreeSet};

/// Virtual time is counted in these parts of a byte, so that weights divide evenly enough.
const PARTS: u128 = 1 << 20;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    start: u128,
    number: u64,
    flow: u64,
    length: u128,
}

/// The line. Who is first may change until he passes: somebody who is further behind may come.
#[derive(Debug, Default)]
pub struct Line {
    now: u128,
    /// When what a flow has asked for ends.
    ends: BTreeMap<u64, u128>,
    waiting: BTreeSet<Ticket>,
    tickets: u64,
}

impl Line {
    /// Joins the line with `bytes` of `flow`, which has `weight`.
    pub fn join(&mut self, flow: u64, weight: u32, bytes: u64) -> Ticket {
        let start = self.ends.get(&flow).copied().unwrap_or(0).max(self.now);
        let length = u128::from(bytes) * PARTS / u128::from(weight.max(1));
        self.ends.insert(flow, start + length);
        let ticket = Ticket { start, number: self.tickets, flow, length };
        self.tickets += 1;
        self.waiting.insert(ticket);
        ticket
    }

    /// Whose turn it is.
    #[must_use]
    pub fn first(&self) -> Option<Ticket> {
        self.waiting.first().copied()
    }

    /// Leaves the line, `passed` or not; returns whose turn it is from now on.
    pub fn leave(&mut self, ticket: Ticket, passed: bool) -> Option<Ticket> {
        self.waiting.remove(&ticket);
        let end = ticket.start + ticket.length;
        if passed {
            self.now = self.now.max(ticket.start);
        } else if self.ends.get(&ticket.flow) == Some(&end) {
            self.ends.insert(ticket.flow, ticket.start);
        }
        if self.waiting.is_empty() {
            // Flows that are not behind the others any more need no record.
            let now = self.now;
            self.ends.retain(|_, end| *end > now);
        }
        self.first()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each flow passes of `total` bytes, if all that are `active` always have something to pass.
    fn passed(weights: &[u32], pieces: &[u64], active: impl Fn(usize, u64) -> bool) -> Vec<u64> {
        let mut line = Line::default();
        let mut passed = vec![0; weights.len()];
        let mut held: Vec<Option<Ticket>> = vec![None; weights.len()];
        for step in 0..20_000u64 {
            for flow in 0..weights.len() {
                if held[flow].is_none() && active(flow, step) {
                    let ticket = line.join(flow as u64, weights[flow], pieces[flow]);
                    held[flow] = Some(ticket);
                }
            }
            let Some(flow) = held.iter().position(|t| t.is_some() && *t == line.first()) else {
                continue;
            };
            passed[flow] += pieces[flow];
            line.leave(held[flow].take().unwrap(), true);
        }
        passed
    }

    #[test]
    fn who_is_alone_passes_everything_and_saves_nothing_up() {
        // The second comes late: it gets its half from then on, and not what it left to the first.
        let passed = passed(&[1, 1], &[100, 100], |flow, step| flow == 0 || step > 10_000);
        assert!((1_480_000..=1_520_000).contains(&passed[0]), "{passed:?}");
    }

    #[test]
    fn who_gives_up_waiting_is_passed_over() {
        let mut line = Line::default();
        let [a, b, c] = [0, 1, 2].map(|flow| line.join(flow, 1, 10));
        assert_eq!(line.first(), Some(a));
        assert_eq!(line.leave(b, false), Some(a));
        assert_eq!(line.leave(a, true), Some(c));
        assert_eq!(line.leave(c, true), None);
        // He was not charged for what did not pass.
        let late = line.join(1, 1, 10);
        line.join(0, 1, 10);
        assert_eq!(line.first(), Some(late));
    }

    #[test]
    fn within_a_flow_who_came_first_is_first() {
        let mut line = Line::default();
        let tickets: Vec<Ticket> = (0..5).map(|_| line.join(7, 1, 10)).collect();
        for pair in tickets.windows(2) {
            assert_eq!(line.leave(pair[0], true), Some(pair[1]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn bytes_are_shared_by_weight(
            flows in prop::collection::vec((1u32..10, 100u64..16_384), 2..6),
        ) {
            let (weights, pieces): (Vec<u32>, Vec<u64>) = flows.into_iter().unzip();
            let passed = passed(&weights, &pieces, |_, _| true);
            let total: u64 = passed.iter().sum();
            let sum: u32 = weights.iter().sum();
            for (weight, bytes) in weights.iter().zip(passed) {
                let fair = total as f64 * f64::from(*weight) / f64::from(sum);
                prop_assert!((bytes as f64 - fair).abs() < fair * 0.02 + 40_000.0, "{bytes} of {fair}");
            }
        }
    }
}
