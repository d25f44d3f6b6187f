//! FLAC, decoded as a whole.

use std::panic::{AssertUnwindSafe, catch_unwind};

use claxon::{Error, FlacReader, FlacReaderOptions};

use super::{Audio, Format, bad, check_memory};
use crate::hook::AudioSpec;
use crate::protocol::Failure;
use crate::source::{Bytes, Source, unreadable};

pub(super) fn read(
    source: &Source,
    spec: &AudioSpec,
    memory_bytes_max: u64,
) -> Result<Audio, Failure> {
    // The decoder counts with what a file says, and panics where that overflows.
    let read = AssertUnwindSafe(|| read_trusting(source, spec, memory_bytes_max));
    catch_unwind(read).unwrap_or_else(|_| Err(bad("the FLAC is damaged")))
}

fn read_trusting(
    source: &Source,
    spec: &AudioSpec,
    memory_bytes_max: u64,
) -> Result<Audio, Failure> {
    let mut reader = open(source)?;
    let info = reader.streaminfo();
    let channels = u16::try_from(info.channels).unwrap_or(u16::MAX);
    let checked = |frames| Format::checked("FLAC", frames, channels, info.sample_rate, spec);
    let frames = match info.samples {
        Some(frames) => frames,
        // Written to a pipe: nobody went back to say how long it is.
        None => {
            let mut frames = 0;
            each_block(&mut open(source)?, info.channels, |block| {
                frames += u64::from(block.duration());
                checked(frames).map(drop)
            })?;
            frames
        }
    };
    let format = checked(frames)?;
    check_memory(format, memory_bytes_max)?;
    let mut audio = Audio::silence(format);
    let scale = 2_f64.powi(-(i32::try_from(info.bits_per_sample).unwrap_or(1) - 1));
    let mut samples = vec![0.0; info.channels as usize];
    let mut done = 0;
    each_block(&mut reader, info.channels, |block| {
        let end = done + u64::from(block.duration());
        if end > frames {
            return Err(bad(format!(
                "the FLAC has more than the {frames} frames that its header promises"
            )));
        }
        for frame in 0..block.duration() {
            for (channel, sample) in (0..).zip(&mut samples) {
                #[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
                let scaled = (f64::from(block.sample(channel, frame)) * scale) as f32;
                *sample = scaled;
            }
            let at = done + u64::from(frame);
            audio.set(usize::try_from(at).unwrap_or(usize::MAX), &samples);
        }
        done = end;
        Ok(())
    })?;
    if done < frames {
        return Err(bad(format!(
            "the FLAC is cut off: its header promises {frames} frames, {done} are there"
        )));
    }
    Ok(audio)
}

fn open(source: &Source) -> Result<FlacReader<Bytes<'_>>, Failure> {
    let options = FlacReaderOptions { metadata_only: false, read_vorbis_comment: false };
    FlacReader::new_ext(source.bytes(), options).map_err(failure)
}

/// Decodes block by block; all must have so many channels.
fn each_block(
    reader: &mut FlacReader<Bytes<'_>>,
    channels: u32,
    mut work: impl FnMut(&claxon::Block) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut blocks = reader.blocks();
    let mut buffer = Vec::new();
    while let Some(block) = blocks.read_next_or_eof(buffer).map_err(failure)? {
        if block.channels() != channels {
            let found = block.channels();
            return Err(bad(format!("the FLAC has {channels} channels, and {found} in a block")));
        }
        work(&block)?;
        buffer = block.into_buffer();
    }
    Ok(())
}

fn failure(error: Error) -> Failure {
    match error {
        Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            bad("the FLAC is cut off")
        }
        Error::IoError(error) => unreadable(&error),
        Error::FormatError(what) => bad(format!("the FLAC is damaged: {what}")),
        Error::Unsupported(what) => bad(format!("the FLAC cannot be read: {what}")),
    }
}
