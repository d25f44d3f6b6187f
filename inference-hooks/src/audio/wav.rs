//! WAV: chunks, one with the format and one with samples, which lie in the file as they are. So any part of it can be
//! read by itself. (Microsoft and IBM, *Multimedia Programming Interface and Data Specifications 1.0*, 1991, and
//! `WAVEFORMATEXTENSIBLE`.)

use super::{Audio, Format, bad};
use crate::hook::AudioSpec;
use crate::protocol::Failure;
use crate::source::Source;

/// Most chunks before the samples; real files have a handful.
const CHUNKS_MAX: usize = 1_000;
/// How much of a file is in memory undecoded.
const READ_BYTES: usize = 64 << 10;

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xFFFE;
/// What stands behind the format's number in the long form, if it is one of the numbers above.
const EXTENSIBLE_TAIL: [u8; 14] = *b"\0\0\0\0\x10\0\x80\0\0\xAA\08\x9B\x71";

/// How a sample is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    /// Whole numbers of so many bytes; of one byte from 0, else with a sign.
    Pcm {
        bytes: usize,
    },
    F32,
    F64,
}

/// An open WAV file whose header fits its length.
#[derive(Debug)]
pub(crate) struct Wav {
    source: Source,
    format: Format,
    encoding: Encoding,
    /// Channels of the file.
    channels: usize,
    data_at: u64,
}

/// The chunk `fmt `.
struct Layout {
    encoding: Encoding,
    channels: u16,
    sample_rate: u32,
}

impl Wav {
    /// Reads the header and makes sure that what it promises is there.
    pub(super) fn open(source: Source, spec: &AudioSpec) -> Result<Self, Failure> {
        let mut layout = None;
        let mut at = 12;
        for _ in 0..CHUNKS_MAX {
            let left = source.length().saturating_sub(at);
            if left < 8 {
                return Err(bad("the WAV has no samples"));
            }
            let mut head = [0; 8];
            source.fill(at, &mut head)?;
            let [a, b, c, d, size @ ..] = head;
            let size = u64::from(u32::from_le_bytes(size));
            match (&[a, b, c, d], layout.take()) {
                (b"data", None) => {
                    return Err(bad("the WAV does not say what its samples are before they come"));
                }
                (b"data", Some(found)) => return Self::data(source, found, at + 8, size, spec),
                (b"fmt ", _) => {
                    let mut chunk = [0; 40];
                    let length = usize::try_from(size.min(40)).unwrap_or(40);
                    if left - 8 < length as u64 {
                        return Err(bad("the WAV is cut off in its header"));
                    }
                    source.fill(at + 8, &mut chunk[..length])?;
                    layout = Some(Layout::read(&chunk[..length])?);
                }
                (_, kept) => layout = kept,
            }
            // Chunks begin at even places.
            at += 8 + size + size % 2;
        }
        Err(bad(format!("the WAV has no samples in its first {CHUNKS_MAX} chunks")))
    }

    fn data(
        source: Source,
        layout: Layout,
        data_at: u64,
        promised: u64,
        spec: &AudioSpec,
    ) -> Result<Self, Failure> {
        let Layout { encoding, channels, sample_rate } = layout;
        let block = encoding.bytes() as u64 * u64::from(channels);
        let there = source.length() - data_at;
        // A header without channels is told of by itself.
        let frames = promised.checked_div(block).unwrap_or(1);
        let format = Format::checked("WAV", frames, channels, sample_rate, spec);
        if promised > there {
            let promise =
                format!("its header promises {promised} bytes of samples, {there} are there");
            return Err(bad(format!("the WAV is cut off: {promise}")));
        }
        let format = format?;
        if !promised.is_multiple_of(block) {
            return Err(bad(format!(
                "the WAV ends within a frame: {promised} bytes of samples in frames of {block}"
            )));
        }
        Ok(Self { source, format, encoding, channels: channels.into(), data_at })
    }

    /// What it holds, as a hook sees it.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Reads `frames` frames from frame `start` on.
    pub(crate) fn read(&self, start: u32, frames: u32) -> Result<Audio, Failure> {
        let block = self.encoding.bytes() * self.channels;
        let mut audio = Audio::silence(Format { frames, ..self.format });
        let mut buffer = vec![0; (READ_BYTES / block).max(1) * block];
        let mut samples = vec![0.0; self.channels];
        let mut done = 0;
        while done < frames as usize {
            let count = (buffer.len() / block).min(frames as usize - done);
            let bytes = &mut buffer[..count * block];
            let frame = u64::from(start) + done as u64;
            self.source.fill(self.data_at + frame * block as u64, bytes)?;
            for (index, bytes) in bytes.chunks_exact(block).enumerate() {
                let parts = bytes.chunks_exact(self.encoding.bytes());
                for (channel, (sample, bytes)) in samples.iter_mut().zip(parts).enumerate() {
                    *sample = self.encoding.sample(bytes).ok_or_else(|| {
                        let frame = frame + index as u64;
                        bad(format!("the WAV has what is no finite number of 32 bits at frame {frame}, channel {channel}"))
                    })?;
                }
                audio.set(done + index, &samples);
            }
            done += count;
        }
        Ok(audio)
    }
}

impl Layout {
    fn read(chunk: &[u8]) -> Result<Self, Failure> {
        let [t0, t1, c0, c1, r0, r1, r2, r3, _, _, _, _, a0, a1, b0, b1, rest @ ..] = chunk else {
            return Err(bad("the WAV has a header that is too short"));
        };
        let tag = match (u16::from_le_bytes([*t0, *t1]), rest) {
            (EXTENSIBLE, [_, _, _, _, _, _, _, _, s0, s1, tail @ ..])
                if tail == EXTENSIBLE_TAIL =>
            {
                u16::from_le_bytes([*s0, *s1])
            }
            (tag, _) => tag,
        };
        let [channels, align, bits] = [[*c0, *c1], [*a0, *a1], [*b0, *b1]].map(u16::from_le_bytes);
        let encoding = match (tag, bits) {
            (PCM, 8 | 16 | 24 | 32) => Encoding::Pcm { bytes: usize::from(bits / 8) },
            (FLOAT, 32) => Encoding::F32,
            (FLOAT, 64) => Encoding::F64,
            _ => {
                return Err(bad(format!(
                    "the WAV is coded as {tag:#06x} with {bits} bits; \
                     PCM (0x0001) of 8, 16, 24 or 32 and floats (0x0003) of 32 or 64 bits are read"
                )));
            }
        };
        if usize::from(align) != encoding.bytes() * usize::from(channels) {
            return Err(bad(format!(
                "the WAV has frames of {align} bytes for {channels} channels of {bits} bits"
            )));
        }
        let sample_rate = u32::from_le_bytes([*r0, *r1, *r2, *r3]);
        Ok(Self { encoding, channels, sample_rate })
    }
}

impl Encoding {
    fn bytes(self) -> usize {
        match self {
            Self::Pcm { bytes } => bytes,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// From -1 to 1, or what a float says; none if that is no finite number.
    fn sample(self, bytes: &[u8]) -> Option<f32> {
        let scaled = |whole: i32| nearest(f64::from(whole) / 2_147_483_648.0);
        let sample = match (self, bytes) {
            (Self::Pcm { .. }, [a]) => (f32::from(*a) - 128.0) / 128.0,
            // As the high bytes of 32 bits.
            (Self::Pcm { .. }, [a, b]) => scaled(i32::from_le_bytes([0, 0, *a, *b])),
            (Self::Pcm { .. }, [a, b, c]) => scaled(i32::from_le_bytes([0, *a, *b, *c])),
            (Self::Pcm { .. } | Self::F32, [a, b, c, d]) => {
                let bytes = [*a, *b, *c, *d];
                if self == Self::F32 {
                    f32::from_le_bytes(bytes)
                } else {
                    scaled(i32::from_le_bytes(bytes))
                }
            }
            (Self::F64, [a, b, c, d, e, f, g, h]) => {
                nearest(f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            (Self::Pcm { .. } | Self::F32 | Self::F64, _) => return None,
        };
        sample.is_finite().then_some(sample)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what f32 means")]
fn nearest(number: f64) -> f32 {
    number as f32
}
