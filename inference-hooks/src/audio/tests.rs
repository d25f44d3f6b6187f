use std::io::Write as _;

use super::*;

const MEMORY: u64 = 64 << 20;

fn spec(channels: Channels) -> AudioSpec {
    AudioSpec { channels, seconds_max: 60 }
}

pub(crate) fn source(bytes: &[u8]) -> Source {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Source::new(&file, 1 << 30).unwrap()
}

fn decode(bytes: &[u8], channels: Channels) -> Result<Audio, Failure> {
    let spec = spec(channels);
    Opened::new(source(bytes), &spec)?.read(MEMORY)
}

fn failure(bytes: &[u8]) -> Failure {
    decode(bytes, Channels::All).expect_err("no sound")
}

fn floats(audio: &Audio) -> Vec<f32> {
    audio.samples().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A WAV file of samples that are written already.
pub(crate) fn wav(tag: u16, bits: u16, channels: u16, rate: u32, data: &[u8]) -> Vec<u8> {
    let block = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    bytes.extend([tag, channels].map(u16::to_le_bytes).concat());
    bytes.extend([rate, rate.wrapping_mul(block.into())].map(u32::to_le_bytes).concat());
    bytes.extend([block, bits].map(u16::to_le_bytes).concat());
    bytes.extend(b"data");
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

fn wav16(channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    wav(1, 16, channels, 48_000, &data)
}

/// A FLAC file of 16 bits without compression, in blocks of `block` frames; its header promises `promised` frames.
pub(crate) fn flac(channels: u8, samples: &[i16], block: usize, promised: u64) -> Vec<u8> {
    let sizes = u16::try_from(block).unwrap().to_be_bytes();
    let mut bytes = [b"fLaC\x80\0\0\x22".as_slice(), &sizes, &sizes, &[0; 6]].concat();
    let words = (48_000_u64 << 44) | (u64::from(channels - 1) << 41) | (15 << 36) | promised;
    bytes.extend(words.to_be_bytes());
    bytes.extend([0; 16]);
    for (number, frames) in samples.chunks(block * usize::from(channels)).enumerate() {
        let count = frames.len() / usize::from(channels);
        let mut frame =
            vec![0xFF, 0xF8, 0x70, ((channels - 1) << 4) | 8, u8::try_from(number).unwrap()];
        frame.extend(u16::try_from(count - 1).unwrap().to_be_bytes());
        frame.push(crc(8, 0x07, &frame).to_be_bytes()[1]);
        for channel in 0..usize::from(channels) {
            frame.push(2);
            let samples = frames.iter().skip(channel).step_by(usize::from(channels));
            frame.extend(samples.flat_map(|sample| sample.to_be_bytes()));
        }
        frame.extend(crc(16, 0x8005, &frame).to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

fn crc(bits: u32, polynomial: u16, bytes: &[u8]) -> u16 {
    let (top, mask) = (1 << (bits - 1), u16::MAX >> (16 - bits));
    let step = |crc: u16, _| if crc & top == 0 { crc << 1 } else { (crc << 1) ^ polynomial };
    let byte = |crc: u16, byte: &u8| (0..8).fold(crc ^ (u16::from(*byte) << (bits - 8)), step);
    bytes.iter().fold(0, byte) & mask
}

/// Two channels that are unlike, and the same each time.
fn noise(frames: i16) -> Vec<i16> {
    (0..frames).flat_map(|at| [at.wrapping_mul(7919), at.wrapping_mul(-31)]).collect()
}

#[test]
fn every_encoding_of_a_sample_means_the_same() {
    let half = -0.5_f32;
    let cases: [(u16, u16, Vec<u8>, f32); 12] = [
        (1, 8, vec![0], -1.0),
        (1, 8, vec![192], 0.5),
        (1, 16, (-16_384_i16).to_le_bytes().to_vec(), half),
        (1, 16, i16::MIN.to_le_bytes().to_vec(), -1.0),
        (1, 24, vec![0, 0, 0xC0], half),
        (1, 24, vec![0xFF, 0xFF, 0x7F], 8_388_607.0 / 8_388_608.0),
        (1, 32, (-1_073_741_824_i32).to_le_bytes().to_vec(), half),
        (1, 32, i32::MIN.to_le_bytes().to_vec(), -1.0),
        (3, 32, half.to_le_bytes().to_vec(), half),
        (3, 32, 1.75_f32.to_le_bytes().to_vec(), 1.75),
        (3, 64, (-0.5_f64).to_le_bytes().to_vec(), half),
        (3, 64, 1e-300_f64.to_le_bytes().to_vec(), 0.0),
    ];
    for (tag, bits, data, expected) in cases {
        let audio = decode(&wav(tag, bits, 1, 8_000, &data), Channels::All).unwrap();
        assert_eq!(floats(&audio), [expected], "{tag} {bits} {data:?}");
        assert_eq!(audio.format(), Format { frames: 1, channels: 1, sample_rate: 8_000 });
    }
}

#[test]
fn channels_come_one_after_the_other_or_mixed() {
    let samples = [16_384, -16_384, 8_192, 0, -32_768, 32_767_i16];
    for bytes in [wav16(2, &samples), flac(2, &samples, 16, 3), flac(2, &samples, 16, 0)] {
        let all = decode(&bytes, Channels::All).unwrap();
        let expected = [0.5, 0.25, -1.0, -0.5, 0.0, 32_767.0 / 32_768.0];
        assert_eq!(floats(&all), expected);
        let shape =
            Shape::Audio { frames: 3, channels: 2, sample_rate: 48_000, seconds: 3.0 / 48_000.0 };
        assert_eq!(all.shape(), shape);
        let mono = decode(&bytes, Channels::Mono).unwrap();
        assert_eq!(floats(&mono), [0.0, 0.125, -1.0 / 65_536.0]);
        assert_eq!(mono.format().channels, 1);
    }
}

#[test]
fn flac_is_what_wav_is() {
    let samples = noise(5_000);
    let expected = decode(&wav16(2, &samples), Channels::All).unwrap();
    for promised in [5_000, 0] {
        let found = decode(&flac(2, &samples, 1_000, promised), Channels::All).unwrap();
        assert_eq!(found.format(), expected.format());
        assert!(found.samples() == expected.samples());
    }
}

#[test]
fn chunks_of_other_kinds_are_passed_over() {
    let plain = wav16(1, &[1, 2, 3]);
    let odd = [&plain[..12], b"LIST\x03\0\0\0abc\0", &plain[12..], b"id3 \x01\0\0\0x"].concat();
    let expected = floats(&decode(&plain, Channels::All).unwrap());
    assert_eq!(floats(&decode(&odd, Channels::All).unwrap()), expected);
    // The long form of the header, as recorders write it.
    let tail = b"\x16\0\x10\0\x04\0\0\0\x01\0\0\0\0\0\x10\0\x80\0\0\xAA\08\x9B\x71";
    let mut long = [&plain[..36], tail, &plain[36..]].concat();
    long[16] = 40;
    long[20..22].copy_from_slice(&[0xFE, 0xFF]);
    assert_eq!(floats(&decode(&long, Channels::All).unwrap()), expected);
    let many = [&plain[..12], &b"JUNK\0\0\0\0".repeat(5_000), &plain[12..]].concat();
    assert_eq!(failure(&many).detail, "the WAV has no samples in its first 1000 chunks");
}

#[test]
fn a_part_of_a_wav_is_that_part_of_the_whole() {
    let samples = noise(20_000);
    let spec = spec(Channels::All);
    let Opened::Wav(wav) = Opened::new(source(&wav16(2, &samples)), &spec).unwrap() else {
        panic!("no WAV")
    };
    let whole = floats(&wav.read(0, 20_000).unwrap());
    for (start, frames) in [(0, 1), (19_999, 1), (17, 18_000), (5_000, 0)] {
        let part = floats(&wav.read(start, frames).unwrap());
        let (start, frames) = (start as usize, frames as usize);
        let expected = [&whole[start..start + frames], &whole[20_000 + start..][..frames]].concat();
        assert!(part == expected, "{start} {frames}");
    }
}

#[test]
fn headers_that_lie_are_found_out() {
    let plain = wav16(2, &noise(10));
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = plain.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let float = |sample: f32| wav(3, 32, 1, 8_000, &[0.0, sample].map(f32::to_le_bytes).concat());
    let samples = noise(100);
    let rate_zero = {
        let mut bytes = flac(2, &samples, 50, 100);
        bytes[18..20].fill(0);
        bytes[20] &= 0x0F;
        bytes
    };
    for (bytes, detail) in [
        (Vec::new(), "the file is empty"),
        (b"ID3\x04 and music".to_vec(), "the file is neither WAV nor FLAC"),
        (
            with(40, &[0xFF; 4]),
            "the WAV is cut off: its header promises 4294967295 bytes of samples, 40 are there",
        ),
        (with(40, &0_u32.to_le_bytes()), "the WAV has no samples"),
        (
            with(40, &38_u32.to_le_bytes()),
            "the WAV ends within a frame: 38 bytes of samples in frames of 4",
        ),
        (wav(1, 16, 0, 8_000, &[0; 4]), "the WAV has no channels"),
        (wav(1, 16, 1, 0, &[0; 4]), "the WAV has a sample rate of 0"),
        (
            wav(1, 16, u16::MAX, 8_000, &[0; 4]),
            "the WAV has frames of 65534 bytes for 65535 channels of 16 bits",
        ),
        (wav(1, 8, 200, 8_000, &[0; 200]), "the WAV has 200 channels; 128 are the most"),
        (
            with(20, &[0x55, 0]),
            "the WAV is coded as 0x0055 with 16 bits; PCM (0x0001) of 8, 16, 24 or 32 and floats (0x0003) of 32 or 64 bits are read",
        ),
        (
            with(34, &[12, 0]),
            "the WAV is coded as 0x0001 with 12 bits; PCM (0x0001) of 8, 16, 24 or 32 and floats (0x0003) of 32 or 64 bits are read",
        ),
        (with(12, b"fmt?"), "the WAV does not say what its samples are before they come"),
        (with(16, &[8, 0]), "the WAV has a header that is too short"),
        (float(f32::NAN), "the WAV has what is no finite number of 32 bits at frame 1, channel 0"),
        (
            float(f32::INFINITY),
            "the WAV has what is no finite number of 32 bits at frame 1, channel 0",
        ),
        (
            wav(3, 64, 1, 8_000, &1e300_f64.to_le_bytes()),
            "the WAV has what is no finite number of 32 bits at frame 0, channel 0",
        ),
        (
            wav(1, 8, 1, 10, &[0; 620]),
            "the sound is longer than 62 seconds; input.max_seconds = 60",
        ),
        (
            flac(2, &samples, 50, 99),
            "the FLAC has more than the 99 frames that its header promises",
        ),
        (
            flac(2, &samples, 50, 101),
            "the FLAC is cut off: its header promises 101 frames, 100 are there",
        ),
        (
            flac(2, &samples, 50, (1 << 36) - 1),
            "the sound is longer than 1431655 seconds; input.max_seconds = 60",
        ),
        (flac(2, &[], 50, 0), "the FLAC has no samples"),
        (rate_zero, "the FLAC is damaged: invalid sample rate"),
    ] {
        let found = failure(&bytes);
        assert_eq!(found.detail, detail);
        let over = ["; 128 are the most", "input.max_seconds"];
        let kind = match over.iter().any(|limit| detail.contains(limit)) {
            true => FailureKind::OverLimit,
            false => FailureKind::BadInput,
        };
        assert_eq!(found.kind, kind, "{detail}");
    }
}

#[test]
fn a_sound_beyond_the_memory_is_refused_before_it_is_there() {
    for bytes in [wav16(2, &noise(3_000)), flac(2, &noise(3_000), 1_000, 3_000)] {
        let opened = |channels| Opened::new(source(&bytes), &spec(channels)).unwrap();
        let found = opened(Channels::All).read(23_999).expect_err("too little");
        let detail = "3000 frames of 2 channels need 24000 bytes of memory; the hook and its worker allow 23999";
        assert_eq!((found.kind, found.detail.as_str()), (FailureKind::OverLimit, detail));
        opened(Channels::Mono).read(12_000).unwrap();
    }
}

#[test]
fn a_file_that_is_cut_off_is_bad_wherever_the_cut_is() {
    for bytes in [wav16(2, &noise(100)), flac(2, &noise(100), 50, 100)] {
        for keep in 0..bytes.len() {
            assert_eq!(failure(&bytes[..keep]).kind, FailureKind::BadInput, "{keep}");
        }
    }
}

#[test]
fn damaged_bytes_give_a_sound_or_an_error_and_nothing_worse() {
    for sound in [wav16(2, &noise(60)), flac(2, &noise(60), 30, 60), flac(2, &noise(60), 30, 0)] {
        for at in 0..sound.len() {
            for flip in [0x01, 0x10, 0x80, 0xFF] {
                let mut bytes = sound.clone();
                bytes[at] ^= flip;
                let _ = decode(&bytes, Channels::Mono);
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_decoder_worse_than_fail(bytes in proptest::collection::vec(0_u8.., 0..200)) {
        for head in [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".as_slice(), b"RIFF\0\0\0\0WAVE", b"fLaC\0\0\0\x22", b"fLaC"] {
            let _ = decode(&[head, &bytes].concat(), Channels::All);
        }
    }
}
