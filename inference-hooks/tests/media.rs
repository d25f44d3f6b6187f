//! Sound and files as they are, through a worker process.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test: skips are printed")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use inference_hooks::{
    Advice, Engine, Hook, HookSource, JobError, JobOutput, WorkerConfig, WorkerProcess,
};
use serde_json::json;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_hook-worker");
const LONG: Duration = Duration::from_secs(60);
const RATE: u32 = 8_000;

/// A worker on a GPU, if only a software one, or a line that says that the test did not run.
fn gpu_worker() -> Option<WorkerProcess> {
    let config = WorkerConfig { allow_software_adapter: true, ..Default::default() };
    let worker = WorkerProcess::spawn(Path::new(EXECUTABLE), &config).unwrap();
    match &worker.hello().adapter {
        Ok(_) => Some(worker),
        Err(why) => {
            println!("SKIP: no GPU test: {why}");
            None
        }
    }
}

fn run(worker: &mut WorkerProcess, hook: &Hook, content: &[u8]) -> Result<JobOutput, JobError> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    worker.run(hook, file.into(), LONG)
}

fn hook(text: &str, shader: (&str, &str)) -> Hook {
    let files = [("hook.toml", text), shader];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap()
}

/// The hook of the manual that listens.
fn loudness(changes: &[(&str, &str)]) -> Hook {
    let manual = include_str!("../hooks/README.md");
    let blocks: Vec<_> = manual.split("```").skip(1).step_by(2).collect();
    let at = blocks.iter().position(|block| block.contains("name = \"loudness\"")).unwrap();
    let mut text = format!("{}\n[limits]\ngpu_ms = 60_000\ncompile_ms = 60_000", &blocks[at][5..]);
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    hook(&text, ("loudness.wgsl", &blocks[at + 1][5..]))
}

/// Two channels: a tone that grows, and noise that stops.
fn samples(frames: u32) -> Vec<[i16; 2]> {
    let frame = |at: u32| {
        let wave = (f64::from(at) * 0.05).sin() * f64::from(at) / f64::from(frames);
        let noise = at.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519);
        let [a, b, ..] = noise.to_le_bytes();
        let noise = if at < frames / 2 { i16::from_le_bytes([a, b]) } else { 0 };
        #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
        [(wave * 30_000.0) as i16, noise]
    };
    (0..frames).map(frame).collect()
}

fn wav(samples: &[[i16; 2]]) -> Vec<u8> {
    let data: Vec<u8> = samples.as_flattened().iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    bytes.extend([RATE, RATE * 4].map(u32::to_le_bytes).concat());
    bytes.extend(b"\x04\0\x10\0data");
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-5 * expected.abs().max(1e-3)
}

#[test]
fn the_loudness_of_the_manual_is_what_plain_arithmetic_says() {
    let Some(mut worker) = gpu_worker() else { return };
    let samples = samples(10_100);
    let hook = loudness(&[]);
    let mut output = run(&mut worker, &hook, &wav(&samples)).unwrap();
    assert_eq!(output.engine, Engine::Gpu);
    let json = output.to_json(&hook);
    assert_eq!(json["input"], json!({ "channels": 2, "frames": 10_100 }));

    let level = |sample: i16| f64::from(sample) / 32_768.0;
    let rms = |levels: &[f64]| {
        (levels.iter().map(|level| level * level).sum::<f64>() / levels.len() as f64).sqrt()
    };
    let peak = |levels: &[f64]| levels.iter().fold(0.0, |peak: f64, level| peak.max(level.abs()));
    let all: Vec<_> = samples.as_flattened().iter().map(|sample| level(*sample)).collect();
    let number = |name: &str| output.fields[name].as_f64().unwrap();
    assert!(near(number("rms"), rms(&all)), "{json}");
    assert!(near(number("peak"), peak(&all)), "{json}");
    assert_eq!(output.fields["clipped"], peak(&all) > 0.9999);

    let derived = output.derived.remove(0);
    assert_eq!(
        (derived.suffix.as_str(), derived.media_type.as_str()),
        (".loudness.csv", "text/csv")
    );
    let text = String::from_utf8(derived.read().unwrap()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("start,channel,frames,rms,peak"));
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 26, "{text}");
    let windows = samples.chunks(800).enumerate();
    let windows = windows.flat_map(|(at, window)| [0, 1].map(|channel| (at, channel, window)));
    for (row, (at, channel, window)) in rows.iter().zip(windows) {
        let levels: Vec<_> = window.iter().map(|frame| level(frame[channel])).collect();
        let start = at as f64 / 10.0;
        assert_eq!(row[..3], [start, channel as f64, levels.len() as f64]);
        assert!(near(row[3], rms(&levels)) && near(row[4], peak(&levels)), "{row:?}");
    }

    let mono = loudness(&[("kind = \"audio\"", "kind = \"audio\"\nchannels = \"mono\"")]);
    let output = run(&mut worker, &mono, &wav(&samples)).unwrap();
    let mixed: Vec<_> = all.chunks(2).map(|frame| f64::midpoint(frame[0], frame[1])).collect();
    assert!(near(output.fields["rms"].as_f64().unwrap(), rms(&mixed)), "{:?}", output.fields);
    assert_eq!((output.width, output.height), (1, 10_100));
}

#[test]
fn bad_sound_is_an_error_of_the_file_and_the_worker_goes_on() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = loudness(&[]);
    let sound = wav(&samples(1_000));
    let mut lies = sound.clone();
    lies[40..44].fill(0xFF);
    for (content, message) in [
        (&b""[..], "the file is empty"),
        (b"Dear Sir or Madam", "the file is neither WAV nor FLAC"),
        (
            &sound[..100],
            "the WAV is cut off: its header promises 4000 bytes of samples, 56 are there",
        ),
        (
            &lies,
            "the WAV is cut off: its header promises 4294967295 bytes of samples, 4000 are there",
        ),
        (b"fLaC\x80\0\0\x22", "the FLAC is cut off"),
    ] {
        let error = run(&mut worker, &hook, content).expect_err(message);
        assert!(matches!(error, JobError::BadInput(_)), "{error:?}");
        assert_eq!((error.to_string().as_str(), error.advice()), (message, Advice::ParkFile));
    }
    for (change, message) in [
        ("max_bytes = 4000", "the file is larger than input.max_bytes = 4000"),
        ("max_seconds = 1", "the sound is longer than 1 seconds; input.max_seconds = 1"),
    ] {
        let limited = loudness(&[("kind = \"audio\"", &format!("kind = \"audio\"\n{change}"))]);
        let error = run(&mut worker, &limited, &wav(&samples(9_000))).expect_err(message);
        assert!(matches!(error, JobError::OverLimit(_)), "{error:?}");
        assert_eq!(error.to_string(), message);
    }
    run(&mut worker, &hook, &sound).unwrap();
}

/// Counts newlines, and says where they are.
const LINES: &str = r#"
[hook]
name = "lines"
api = 1
match = ["*"]
[input]
kind = "bytes"
[buffers]
found = { type = "atomic<u32>", len = "1" }
[[pass]]
shader = "lines.wgsl"
entry = "find"
dispatch = ["ceil(length / 64)", "1"]
reads = ["input"]
writes = ["found", "output"]
[[pass]]
shader = "lines.wgsl"
entry = "tell"
dispatch = ["1", "1"]
reads = ["found"]
writes = ["report"]
[output.json]
fields = { lines = "u32" }
[output.table]
suffix = ".lines.jsonl"
format = "jsonl"
rows = "length"
columns = [{ name = "at", type = "position" }, { name = "before", type = "u32" }]
[limits]
gpu_ms = 60_000
compile_ms = 60_000
"#;

const LINES_WGSL: &str = "
@compute @workgroup_size(64)
fn find(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.length {
        return;
    }
    let row = file.out_offset + id.x;
    output[row].at = 0xffffffffu;
    if byte(file, id.x) == 10u {
        atomicAdd(&found[found_at(id.z)], 1u);
        output[row].at = id.x;
        output[row].before = byte(file, max(id.x, 1u) - 1u);
    }
}

@compute @workgroup_size(1)
fn tell(@builtin(workgroup_id) id: vec3<u32>) {
    report[id.z].lines = atomicLoad(&found[found_at(id.z)]);
}";

#[test]
fn a_file_is_seen_byte_by_byte() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = hook(LINES, ("lines.wgsl", LINES_WGSL));
    for (content, lines, table) in [
        (
            &b"a\nbc\xff\n\nx"[..],
            3,
            "{\"at\":1,\"before\":97}\n{\"at\":5,\"before\":255}\n{\"at\":6,\"before\":10}\n",
        ),
        (b"\n", 1, "{\"at\":0,\"before\":10}\n"),
        (b"none", 0, ""),
        (b"", 0, ""),
    ] {
        let mut output = run(&mut worker, &hook, content).unwrap();
        assert_eq!(output.fields["lines"], lines, "{content:?}");
        assert_eq!(output.to_json(&hook)["input"], json!({ "bytes": content.len() }));
        let derived = output.derived.remove(0).read().unwrap();
        assert_eq!(String::from_utf8(derived).unwrap(), table);
    }
    // A derived table of more rows than are written.
    let error = run(&mut worker, &hook, &vec![0; (1 << 20) + 1]).expect_err("too many rows");
    assert!(matches!(error, JobError::OverLimit(_)), "{error:?}");
}

#[test]
fn sound_and_bytes_need_a_gpu() {
    let config = WorkerConfig::default();
    let mut worker = WorkerProcess::spawn(Path::new(EXECUTABLE), &config).unwrap();
    if worker.hello().adapter.is_ok() {
        println!("SKIP: this machine has a GPU");
        return;
    }
    for hook in [loudness(&[]), hook(LINES, ("lines.wgsl", LINES_WGSL))] {
        let error = worker.load(&hook).expect_err("no engine");
        assert!(matches!(error, JobError::NoEngine(_)), "{error:?}");
        assert_eq!(error.advice(), Advice::ParkHook);
    }
}
