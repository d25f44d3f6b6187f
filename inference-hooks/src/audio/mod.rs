//! Sound: WAV and FLAC, decoded to 32-bit floats. Whatever a file's bytes are, the result is a sound within the limits
//! or an error.

mod flac;
mod wav;

#[cfg(test)]
pub(crate) mod tests;

use crate::hook::{AudioSpec, Channels, Shape};
use crate::protocol::{Failure, FailureKind};
use crate::source::Source;

pub(crate) use wav::Wav;

/// Most channels of a file. A sound field of the ninth order has a hundred; a header that lies has thousands.
const CHANNELS_MAX: u16 = 128;

/// What a file says of its sound, and what was found to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Samples of each channel.
    pub(crate) frames: u32,
    /// Channels, after mixing.
    pub(crate) channels: u32,
    /// Frames a second.
    pub(crate) sample_rate: u32,
}

/// A decoded sound, or a piece of one.
#[derive(Debug)]
pub(crate) struct Audio {
    format: Format,
    /// Channel by channel, 32-bit floats as shaders find them.
    samples: Vec<u8>,
}

/// A file of sound that is open and looks sound.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Can be read from any frame on.
    Wav(Wav),
    /// Is decoded as a whole.
    Flac(Source, AudioSpec),
}

impl Opened {
    /// Looks at a file's first bytes.
    pub(crate) fn new(source: Source, spec: &AudioSpec) -> Result<Self, Failure> {
        let mut head = [0; 12];
        let length = source.length().min(head.len() as u64);
        let head = &mut head[..usize::try_from(length).unwrap_or_default()];
        source.fill(0, head)?;
        match head {
            [] => Err(bad("the file is empty")),
            [b'f', b'L', b'a', b'C', ..] => Ok(Self::Flac(source, spec.clone())),
            [b'R', b'I', b'F', b'F', .., b'W', b'A', b'V', b'E'] => {
                Wav::open(source, spec).map(Self::Wav)
            }
            _ => Err(bad("the file is neither WAV nor FLAC")),
        }
    }

    /// All of it.
    pub(crate) fn read(&self, memory_bytes_max: u64) -> Result<Audio, Failure> {
        match self {
            Self::Wav(wav) => {
                check_memory(wav.format(), memory_bytes_max)?;
                wav.read(0, wav.format().frames)
            }
            Self::Flac(source, spec) => flac::read(source, spec, memory_bytes_max),
        }
    }
}

impl Format {
    /// Its size, as expressions see it.
    pub(crate) fn shape(self) -> Shape {
        let Self { frames, channels, sample_rate } = self;
        let seconds = f64::from(frames) / f64::from(sample_rate);
        Shape::Audio { frames, channels, sample_rate, seconds }
    }

    /// The same, of another length.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_frames(self, frames: u32) -> Self {
        Self { frames, ..self }
    }

    /// The format of what a hook looks at, if a file may say so much of itself.
    fn checked(
        what: &str,
        frames: u64,
        channels: u16,
        sample_rate: u32,
        spec: &AudioSpec,
    ) -> Result<Self, Failure> {
        if channels == 0 {
            return Err(bad(format!("the {what} has no channels")));
        }
        if channels > CHANNELS_MAX {
            let detail = format!("the {what} has {channels} channels; {CHANNELS_MAX} are the most");
            return Err(over(detail));
        }
        if sample_rate == 0 {
            return Err(bad(format!("the {what} has a sample rate of 0")));
        }
        if frames == 0 {
            return Err(bad(format!("the {what} has no samples")));
        }
        let max = spec.seconds_max;
        if frames > max.saturating_mul(sample_rate.into()) {
            let seconds = frames / u64::from(sample_rate);
            let detail =
                format!("the sound is longer than {seconds} seconds; input.max_seconds = {max}");
            return Err(over(detail));
        }
        let frames = u32::try_from(frames)
            .map_err(|_| over(format!("the {what} has {frames} frames; 2^32 - 1 are the most")))?;
        let channels = match spec.channels {
            Channels::All => u32::from(channels),
            Channels::Mono => 1,
        };
        Ok(Self { frames, channels, sample_rate })
    }
}

impl Audio {
    /// One frame: what hooks are tried on.
    #[cfg(feature = "gpu")]
    pub(crate) fn smallest() -> Self {
        let format = Format { frames: 1, channels: 1, sample_rate: 48_000 };
        Self { format, samples: vec![0; 4] }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Its size, as expressions see it.
    pub(crate) fn shape(&self) -> Shape {
        self.format.shape()
    }

    /// What shaders see: the samples of the first channel, then those of the next.
    pub(crate) fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// Some of its frames.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_frames(&self, start: u32, frames: u32) -> Self {
        let channel_bytes = (self.format.frames as usize * 4).max(1);
        let part = start as usize * 4..(start + frames) as usize * 4;
        let channels = self.samples.chunks(channel_bytes);
        let part = channels.flat_map(|channel| channel.get(part.clone()).unwrap_or_default());
        Self { format: self.format.with_frames(frames), samples: part.copied().collect() }
    }

    /// Silence, to be filled.
    fn silence(format: Format) -> Self {
        let bytes = format.frames as usize * format.channels as usize * 4;
        Self { format, samples: vec![0; bytes] }
    }

    /// Sets a frame to a sample of each channel of the file, mixed if the hook wants so.
    fn set(&mut self, frame: usize, samples: &[f32]) {
        if self.format.channels as usize == samples.len() {
            for (channel, sample) in samples.iter().enumerate() {
                self.put(channel, frame, *sample);
            }
        } else {
            let sum: f64 = samples.iter().map(|sample| f64::from(*sample)).sum();
            #[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
            self.put(0, frame, (sum / samples.len() as f64) as f32);
        }
    }

    fn put(&mut self, channel: usize, frame: usize, sample: f32) {
        let at = (channel * self.format.frames as usize + frame) * 4;
        if let Some(place) = self.samples.get_mut(at..at + 4) {
            place.copy_from_slice(&sample.to_le_bytes());
        }
    }
}

/// Whether all samples of a sound fit.
fn check_memory(format: Format, memory_bytes_max: u64) -> Result<(), Failure> {
    let Format { frames, channels, .. } = format;
    let bytes = u64::from(frames) * u64::from(channels) * 4;
    if bytes <= memory_bytes_max {
        return Ok(());
    }
    Err(over(format!(
        "{frames} frames of {channels} channels need {bytes} bytes of memory; \
         the hook and its worker allow {memory_bytes_max}"
    )))
}

fn bad(detail: impl ToString) -> Failure {
    Failure::new(FailureKind::BadInput, detail)
}

fn over(detail: impl ToString) -> Failure {
    Failure::new(FailureKind::OverLimit, detail)
}
