//! Sound and files as they are, through a worker process.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test: skips are printed")]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;

use inference_hooks::{
    Advice, Engine, Hook, HookSource, JobError, JobOutput, WorkerConfig, WorkerProcess,
};
use serde_json::json;

mod common;

use common::{LONG, gpu_worker, run, start};

const RATE: u32 = 8_000;

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

#[test]
fn what_is_said_of_a_file_is_the_same_whatever_it_came_with() {
    let Some(mut worker) = gpu_worker() else { return };
    let sounds = [900, 10_100, 1, 5_000].map(|frames| wav(&samples(frames)));
    let texts = [&b"a\nb"[..], b"", b"\n\n\n", &[7; 5_000]].map(<[u8]>::to_vec);
    let files = [vec![0xFF; 3_000], Vec::new(), vec![1; 1 << 21], vec![2; 17]];
    let mut slow = sounds;
    // The second is half as fast, and so twice as long in windows of time.
    slow[1][24..28].copy_from_slice(&(RATE / 2).to_le_bytes());
    let lines = hook(LINES, ("lines.wgsl", LINES_WGSL));
    let sum = hook(SUM, ("sum.wgsl", SUM_WGSL));
    for (hook, contents) in [(loudness(&[]), slow), (lines, texts), (sum, files)] {
        let inputs = contents.each_ref().map(|content| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            file.into()
        });
        let mut together = Vec::new();
        worker.run_batch(&hook, &inputs, LONG, |said| together.push(said));
        for (content, said) in contents.iter().zip(together) {
            let alone = run(&mut worker, &hook, content).unwrap();
            let said = said.unwrap();
            assert_eq!(said.to_json(&hook), alone.to_json(&hook));
            let read = |output: JobOutput| {
                let files = output.derived.into_iter();
                files.map(|file| file.read().unwrap()).collect::<Vec<_>>()
            };
            assert!(read(said) == read(alone), "{}", hook.name());
        }
    }
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

/// Adds up all bytes, tile by tile.
const SUM: &str = r#"
[hook]
name = "sum"
api = 1
match = ["*"]
[input]
kind = "bytes"
max_bytes = "4GiB"
tiles = { size = "1MiB" }
[buffers]
total = { type = "atomic<u32>", len = "1" }
[[pass]]
shader = "sum.wgsl"
entry = "add"
dispatch = ["ceil(length / 65536)", "1"]
reads = ["input"]
writes = ["total"]
[[pass]]
shader = "sum.wgsl"
entry = "tell"
dispatch = ["1", "1"]
reads = ["total"]
writes = ["report"]
[output.json.fields]
total = { type = "u32", combine = "sum" }
bytes = { type = "u32", combine = "sum" }
end = { type = "u32", combine = "max" }
[limits]
gpu_ms = 60_000
compile_ms = 60_000
memory = "128MiB"
"#;

const SUM_WGSL: &str = "
@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let file = files[group.z];
    let words = (file.length + 3u) / 4u;
    let start = group.x * 16384u + local;
    var sum = 0u;
    for (var word = start; word < min(start + 16384u, words); word += 64u) {
        sum += dot(unpack4xU8(input[file.offset + word]), vec4(1u));
    }
    atomicAdd(&total[total_at(group.z)], sum);
}

@compute @workgroup_size(1)
fn tell(@builtin(workgroup_id) id: vec3<u32>) {
    let file = files[id.z];
    report[id.z].total = atomicLoad(&total[total_at(id.z)]);
    report[id.z].bytes = file.inner_len;
    report[id.z].end = file.origin + file.length;
}";

#[test]
fn two_gigabytes_are_added_up_in_little_memory() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = hook(SUM, ("sum.wgsl", SUM_WGSL));
    worker.load(&hook).unwrap();
    let length = (1_u64 << 31) + 5;
    let file = tempfile::tempfile().unwrap();
    file.set_len(length).unwrap();
    let mut expected = 0;
    for at in [0, 1 << 20, (1 << 30) - 7, (3 << 29) + 1, length - 13] {
        file.write_all_at(&[0xFF; 13], at).unwrap();
        expected += 13 * 255;
    }
    let before = memory_peak(&worker);
    let output = worker.run(&hook, file.into(), LONG).unwrap();
    let fields = json!({ "total": expected, "bytes": length, "end": length });
    assert_eq!(serde_json::Value::Object(output.fields), fields);
    assert_eq!(u64::from(output.height), length);
    let peak = memory_peak(&worker);
    println!("{before} bytes before, {peak} bytes at the peak");
    assert!(peak < before + (192 << 20), "{before} bytes before, {peak} at the peak");

    let error = start(&WorkerConfig::default()).load(&hook);
    assert!(matches!(error, Err(JobError::NoEngine(_)) | Ok(Engine::Gpu)), "{error:?}");
}

/// The most that a worker had in memory at a time.
fn memory_peak(worker: &WorkerProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn sound_and_bytes_need_a_gpu() {
    let config = WorkerConfig::default();
    let mut worker = start(&config);
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
