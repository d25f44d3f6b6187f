//! Files that are looked at piece by piece: as many tiles in a dispatch as fit, one dispatch after the other.

use std::fs::File;
use std::time::Instant;

use super::{Engines, Loaded, Output, failure, output_size};
use crate::audio::{Format, Opened};
use crate::decode::decode;
use crate::derived::{self, Derived};
use crate::gpu::GpuError;
use crate::hook::{Kind, Tiles};
use crate::protocol::{Done, Engine, Failure, FailureKind};
use crate::source::Source;
use crate::table::{Labels, Table, check_rows};
use crate::tiles::{Layout, Outline, Pieces, RawFile, Tile, Whole};

/// Most tiles of a file.
const TILES_MAX: u64 = 1 << 20;
/// Most tiles of a dispatch: more would gain nothing.
const TOGETHER_MAX: u64 = 4_096;

impl Engines {
    /// What is said of a file that is cut; `memory` bounds what is held for it.
    pub(crate) fn run_in_tiles(
        &self,
        loaded: &Loaded,
        tiles: &Tiles,
        file: &File,
        memory: u64,
    ) -> Result<Output, Failure> {
        let hook = &loaded.hook;
        let bytes_max = hook.input().bytes_max;
        match hook.kind() {
            Kind::Image => {
                let bytes = Source::new(file, bytes_max)?.read_all()?;
                let (image, came) = decode(&bytes, hook.input().pixels_max, memory)?;
                drop(bytes);
                let left = memory.saturating_sub(image.as_raw().len() as u64);
                let mut whole = self.tile_by_tile(loaded, tiles, &image, left)?;
                let (width, height) = image.dimensions();
                drop(image);
                let picture = whole.image.take().zip(hook.output().image.as_ref());
                let picture = picture.map(|(image, output)| derived::picture(output, image, came));
                Ok(done(whole, [width, height], picture.transpose()?))
            }
            Kind::Table(spec) => {
                let bytes = Source::new(file, bytes_max)?.read_all()?;
                let table = Table::decode(&bytes, spec, memory)?;
                drop(bytes);
                let columns = u32::try_from(table.columns.len()).unwrap_or(u32::MAX);
                // The times beside the cells.
                let held = u64::from(table.rows) * (u64::from(columns) * 4 + 16);
                let whole =
                    self.tile_by_tile(loaded, tiles, &table, memory.saturating_sub(held))?;
                written(loaded, whole, &table, [columns, table.rows])
            }
            Kind::Audio(spec) => {
                let (whole, format) = match Opened::new(Source::new(file, bytes_max)?, spec)? {
                    Opened::Wav(wav) => {
                        (self.tile_by_tile(loaded, tiles, &wav, memory)?, wav.format())
                    }
                    flac @ Opened::Flac(..) => {
                        let audio = flac.read(memory)?;
                        let left = memory.saturating_sub(audio.samples().len() as u64);
                        (self.tile_by_tile(loaded, tiles, &audio, left)?, audio.format())
                    }
                };
                let Format { frames, channels, .. } = format;
                written(loaded, whole, &format, [channels, frames])
            }
            Kind::Bytes => {
                let raw = RawFile::new(Source::new(file, bytes_max)?)?;
                let whole = self.tile_by_tile(loaded, tiles, &raw, memory)?;
                written(loaded, whole, &raw.length(), [1, raw.length()])
            }
        }
    }

    /// Runs over all tiles; `memory` bounds what is held beside `pieces`.
    fn tile_by_tile(
        &self,
        loaded: &Loaded,
        tiles: &Tiles,
        pieces: &impl Pieces,
        memory: u64,
    ) -> Result<Whole, Failure> {
        let hook = &loaded.hook;
        let (gpu, compiled) = match (&self.gpu, &loaded.compiled) {
            (Ok(gpu), Some(compiled)) => (gpu, compiled),
            (Err(why), _) => return Err(Failure::new(FailureKind::NoEngine, why)),
            (Ok(_), None) => unreachable!("a hook is loaded with its pipelines"),
        };
        let layout = Layout::new(pieces.shape(), tiles);
        let count = layout.count();
        if count > TILES_MAX {
            return Err(over(format!(
                "the file makes {count} tiles; {TILES_MAX} are the most: use a larger input.tiles.size"
            )));
        }
        let rows = Whole::rows_of(hook, pieces, &layout).map_err(output_size)?;
        check_rows(u32::try_from(rows).unwrap_or(u32::MAX))?;
        let held = Whole::memory_bytes(hook, pieces.shape(), rows);
        let memory = memory.saturating_sub(held);
        let mut whole = Whole::new(hook, pieces.shape());
        let mut time = hook.limits().run_max;
        let mut next = 0;
        while next < count {
            let ahead = next..count.min(next + TOGETHER_MAX);
            let outline = |index| {
                let place = layout.place(index);
                Outline { shape: pieces.outline(place), place }
            };
            let mut outlines: Vec<_> = ahead.map(outline).collect();
            let together = gpu.fitting(hook, compiled, &outlines, memory).map_err(failure)?;
            outlines.truncate(together);
            let read = |outline: &Outline| {
                let place = outline.place;
                Ok(Tile { piece: pieces.piece(place)?, place: Some(place) })
            };
            let read: Vec<_> = outlines.iter().map(read).collect::<Result<_, Failure>>()?;
            let begun = now();
            let outputs =
                gpu.run_for(hook, compiled, &read, time).map_err(|error| match error {
                    GpuError::Timeout(_) => failure(GpuError::Timeout(hook.limits().run_max)),
                    error @ (GpuError::Shader(_)
                    | GpuError::Broken(_)
                    | GpuError::TooLarge(_)
                    | GpuError::OutOfMemory(_)
                    | GpuError::Lost(_)) => failure(error),
                })?;
            time = time.saturating_sub(begun.elapsed());
            for (outline, output) in outlines.iter().zip(outputs) {
                whole.add(hook, tiles, outline.place, output);
            }
            next += together as u64;
        }
        Ok(whole)
    }
}

fn written(
    loaded: &Loaded,
    whole: Whole,
    labels: &dyn Labels,
    size: [u32; 2],
) -> Result<Output, Failure> {
    let table = loaded.hook.output().table.as_ref();
    let table = table.map(|output| derived::table(output, &whole.rows, labels)).transpose()?;
    Ok(done(whole, size, table))
}

fn done(whole: Whole, [width, height]: [u32; 2], derived: Option<Derived>) -> Output {
    let (derived, files) = derived.into_iter().unzip();
    let fields = whole.fields;
    (Done { engine: Engine::Gpu, note: None, width, height, fields, derived }, files)
}

fn over(detail: String) -> Failure {
    Failure::new(FailureKind::OverLimit, detail)
}

#[expect(clippy::disallowed_methods, reason = "it bounds a device, in real time")]
fn now() -> Instant {
    Instant::now()
}
