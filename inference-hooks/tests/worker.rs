//! The worker as a daemon has it: a process at the other end of a socket, with good and with hostile input.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: another process is waited for in real time, and skips are printed"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, IoSlice, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use inference_hooks::{
    Advice, Engine, Hook, HookSource, JobError, JobOutput, WORKER_ARGUMENT, WorkerConfig,
    WorkerProcess, ready_hooks,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use serde_json::{Value, json};

#[path = "worker/batches.rs"]
mod batches;
mod common;

use common::{EXECUTABLE, LONG, file, gpu_worker, run, start};

/// A worker on the CPU, as on a machine without a GPU.
fn cpu_worker() -> WorkerProcess {
    start(&WorkerConfig::default())
}

fn ready(name: &str) -> Hook {
    let ready = ready_hooks().iter().find(|ready| ready.name == name).unwrap();
    Hook::parse(ready.source()).unwrap()
}

/// A hook that writes its input, changed by `shader`, to a derived picture.
fn hook(shader: &str, changes: &[(&str, &str)]) -> Hook {
    let mut text = r#"
[hook]
name = "test"
api = 1
match = ["*"]
[input]
kind = "image"
[[pass]]
shader = "test.wgsl"
entry = "main"
dispatch = ["width", "height"]
reads = ["input"]
writes = ["output"]
[output.image]
suffix = ".test.png"
format = "png"
[limits]
gpu_ms = 60_000
compile_ms = 60_000
"#
    .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let files = [("hook.toml", text.as_str()), ("test.wgsl", shader)];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap()
}

const INVERT: &str = "
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
    let file = files[id.z];
    let at = id.y * file.width + id.x;
    output[file.out_offset + at] = input[file.offset + at] ^ 0x00ffffffu;
}";

/// About 10^12 steps on the picture of `photo`, and few on the single pixel that it is tried on.
const ENDLESS: &str = "
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = id.x;
    for (var turn = 0u; turn < 60000u; turn++) {
        sum = sum * 1664525u + input[sum % arrayLength(&input)];
    }
    output[id.x % arrayLength(&output)] = sum;
}";

fn bytes(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image.clone()).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn photo() -> Vec<u8> {
    let image = RgbImage::from_fn(640, 427, |x, y| {
        let shade = u8::try_from((x * 31 + y * 17) % 256).unwrap();
        Rgb([shade, shade / 2, 255 - shade])
    });
    bytes(&image, ImageFormat::Jpeg)
}

/// Whether the process is gone, after a moment.
fn ends(pid: u32) -> bool {
    let state = || fs::read_to_string(format!("/proc/{pid}/stat"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match state() {
            Err(_) => return true,
            Ok(stat) if stat.contains(") Z ") => return true,
            Ok(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
    false
}

#[test]
fn ready_hooks_run_on_the_gpu() {
    let Some(mut worker) = gpu_worker() else { return };
    let adapter = worker.hello().adapter.clone().unwrap();
    check_ready_hooks(&mut worker, Engine::Gpu, Some(adapter.name.as_str()));
}

#[test]
fn without_a_gpu_the_twins_run_and_say_so() {
    let mut worker = cpu_worker();
    if worker.hello().adapter.is_ok() {
        println!("SKIP: this machine has a GPU");
        return;
    }
    check_ready_hooks(&mut worker, Engine::Cpu, None);
}

fn check_ready_hooks(worker: &mut WorkerProcess, engine: Engine, adapter: Option<&str>) {
    let photo = photo();
    let check = |output: &JobOutput| {
        assert_eq!((output.engine, output.adapter.as_deref()), (engine, adapter));
        assert_eq!(output.note.is_some(), engine == Engine::Cpu, "{:?}", output.note);
        assert_eq!((output.width, output.height), (640, 427));
    };
    let mut thumbnail = run(worker, &ready("thumbnail"), &photo).unwrap();
    check(&thumbnail);
    assert_eq!(
        (&thumbnail.fields["width"], &thumbnail.fields["height"]),
        (&640.into(), &427.into())
    );
    let derived = thumbnail.derived.remove(0);
    assert_eq!(
        (derived.suffix.as_str(), derived.media_type.as_str()),
        (".thumb.jpg", "image/jpeg")
    );
    let small = image::load_from_memory(&derived.read().unwrap()).unwrap();
    assert_eq!((small.width(), small.height()), (256, 171));

    let hook = ready("sharpness");
    let sharpness = run(worker, &hook, &photo).unwrap();
    check(&sharpness);
    assert!(sharpness.derived.is_empty());
    let json = sharpness.to_json(&hook);
    assert_eq!(json["result"]["blurred"], false, "{json}");
    assert_eq!(
        (&json["hook"], &json["version"]),
        (&"sharpness".into(), &hook.version().as_str().into())
    );

    let blurred = run(worker, &ready("privacy-blur"), &photo).unwrap();
    check(&blurred);
    assert_eq!(blurred.fields["masks"], 1);
    let mut file = blurred.derived.into_iter().next().unwrap().into_file();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    assert_eq!(image::load_from_memory(&content).unwrap().width(), 640);
    assert!(file.write_all(b"more").is_err(), "a derived file is sealed");
}

/// A day of a machine, a reading a minute: a daily cycle, noise, and three spikes.
fn sensor_file() -> String {
    let mut text = "timestamp;temperature;pressure;state\n".to_owned();
    for minute in 0..1440_u32 {
        let noise = |seed: u32| {
            let mixed = (minute.wrapping_mul(2_654_435_761) ^ seed).rotate_left(13);
            f64::from(mixed.wrapping_mul(2_246_822_519) >> 8) / f64::from(1_u32 << 24) - 0.5
        };
        let cycle = (f64::from(minute) / 1440.0 * std::f64::consts::TAU).sin();
        let spike = if [400, 1001].contains(&minute) { 15.0 } else { 0.0 };
        let temperature = 20.0 + 6.0 * cycle + noise(1) + spike;
        let temperature = if minute == 77 { String::new() } else { format!("{temperature:.2}") };
        let pressure = 1013.0 + noise(2) - if minute == 1200 { 40.0 } else { 0.0 };
        let (hour, minute) = (minute / 60, minute % 60);
        text.push_str(&format!(
            "2024-05-01T{hour:02}:{minute:02}:00Z;{temperature};{pressure:.2};ok\n"
        ));
    }
    text
}

/// The spikes of `sensor_file` and nothing else, whichever engine looks for them.
fn check_telemetry(worker: &mut WorkerProcess, engine: Engine) {
    let ready = ready_hooks().iter().find(|ready| ready.name == "telemetry").unwrap();
    let mut files = ready.source().files().clone();
    files.insert("params.toml".to_owned(), b"window_seconds = 3600".to_vec());
    let text = String::from_utf8(files["hook.toml"].clone()).unwrap();
    let text = text.replace("gpu_ms = 5000", "gpu_ms = 60_000\ncompile_ms = 60_000");
    files.insert("hook.toml".to_owned(), text.into_bytes());
    let hook = Hook::parse(HookSource::new(files)).unwrap();
    let mut output = run(worker, &hook, sensor_file().as_bytes()).unwrap();
    assert_eq!(output.engine, engine);
    let json = output.to_json(&hook);
    assert_eq!(json["input"], json!({ "columns": 2, "rows": 1440 }));
    let count = |name: &str| json["result"][name].as_u64();
    let counts = ["rows", "columns", "windows", "missing", "anomalies"].map(count);
    assert_eq!(counts, [1440, 2, 24, 1, 3].map(Some), "{json}");
    let derived = output.derived.remove(0);
    let kind = (derived.suffix.as_str(), derived.media_type.as_str());
    assert_eq!(kind, (".summary.csv", "text/csv"));
    let summary = String::from_utf8(derived.read().unwrap()).unwrap();
    let rows: Vec<Vec<_>> = summary.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[0][11]), (49, "start", "anomalies"));
    let found = rows[1..].iter().filter(|row| row[11] != "0").map(|row| [row[0], row[1], row[11]]);
    let planted = [
        ["2024-05-01T06:00:00Z", "temperature", "1"],
        ["2024-05-01T16:00:00Z", "temperature", "1"],
        ["2024-05-01T20:00:00Z", "pressure", "1"],
    ];
    assert_eq!(found.collect::<Vec<_>>(), planted);

    let bad = run(worker, &hook, b"PAR1 and nothing else").expect_err("no table");
    assert!(matches!(bad, JobError::BadInput(_)), "{bad:?}");
    run(worker, &hook, sensor_file().as_bytes()).unwrap();
}

#[test]
fn spikes_of_a_sensor_are_found_on_the_gpu() {
    let Some(mut worker) = gpu_worker() else { return };
    check_telemetry(&mut worker, Engine::Gpu);
}

#[test]
fn spikes_of_a_sensor_are_found_without_a_gpu() {
    let mut worker = cpu_worker();
    if worker.hello().adapter.is_ok() {
        println!("SKIP: this machine has a GPU");
        return;
    }
    check_telemetry(&mut worker, Engine::Cpu);
}

#[test]
fn a_hook_without_a_twin_needs_a_gpu() {
    let mut worker = cpu_worker();
    if worker.hello().adapter.is_ok() {
        println!("SKIP: this machine has a GPU");
        return;
    }
    let error = worker.load(&hook(INVERT, &[])).expect_err("no engine");
    assert!(matches!(error, JobError::NoEngine(_)), "{error:?}");
    assert_eq!(error.advice(), Advice::ParkHook);
    assert!(error.to_string().starts_with("hook `test` needs a GPU and has no [fallback]; here "));
    if !cfg!(feature = "gpu") {
        return;
    }
    // A broken shader is found all the same.
    let error = worker.load(&hook("fn main(", &[])).expect_err("broken");
    assert!(matches!(error, JobError::HookBroken(_)), "{error:?}");
}

#[test]
fn a_changed_hook_takes_the_place_of_the_old_one() {
    let Some(mut worker) = gpu_worker() else { return };
    let image = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3]));
    let png = bytes(&image, ImageFormat::Png);
    let mut first_pixel = |hook: &Hook| {
        let output = run(&mut worker, hook, &png).unwrap();
        let derived = output.derived.into_iter().next().unwrap().read().unwrap();
        image::load_from_memory(&derived).unwrap().into_rgb8().get_pixel(0, 0).0
    };
    assert_eq!(first_pixel(&hook(INVERT, &[])), [254, 253, 252]);
    assert_eq!(first_pixel(&hook(&INVERT.replace("0x00ffffff", "0"), &[])), [1, 2, 3]);
}

#[test]
fn a_broken_shader_is_shown_where_it_is_broken() {
    let Some(mut worker) = gpu_worker() else { return };
    let bomb: String = (1..24)
        .map(|n| format!("fn f{n}(x: u32) -> u32 {{ return f{0}(x) + f{0}(x + 1u); }}\n", n - 1))
        .collect();
    let bomb = format!(
        "fn f0(x: u32) -> u32 {{ return x * 3u; }}\n{bomb}{}",
        INVERT.replace("input[file.offset + at]", "f23(input[file.offset + at])")
    );
    let body = |body: &str| format!("@compute @workgroup_size(1) fn main() {{ {body} }}");
    let long = format!("{INVERT}\n{}", "// long\n".repeat(40_000));
    for (shader, changes, messages) in [
        (
            INVERT.replace("id.y * file", "1.5 * file"),
            &[][..],
            &["test.wgsl:5:14", "let at = 1.5 * file.width"][..],
        ),
        (
            body("output[0] = nothing;"),
            &[],
            &["no definition in scope for identifier: `nothing`", "test.wgsl:1"],
        ),
        (
            body(&format!("output[0] = {}1u{};", "(".repeat(5_000), ")".repeat(5_000))),
            &[],
            &["Parser recursion limit exceeded"],
        ),
        (
            bomb,
            &[],
            &["statements and expressions; 32768 are allowed: call the same function less often"],
        ),
        (long, &[], &["test.wgsl has 320", "bytes; 262144 are allowed"]),
        (
            body("var a: array<u32, 100000>; output[0] = a[output[1]];"),
            &[],
            &["keeps 400000 bytes of variables in each invocation; 65536 are allowed"],
        ),
        (
            INVERT.to_owned(),
            &[("reads = [\"input\"]", "")],
            &["`main` reads `input`, but its pass in hook.toml does not say so: add it to `reads`"],
        ),
        (
            INVERT.to_owned(),
            &[("entry = \"main\"", "entry = \"mian\"")],
            &["test.wgsl has no compute entry point `mian`; it has main"],
        ),
        (
            format!(
                "@group(0) @binding(99) var<storage, read> more: array<u32>;\n{}",
                body("output[0] = more[0];")
            ),
            &[],
            &["`more`: fsd declares all bindings itself; remove this one"],
        ),
        (
            INVERT.to_owned(),
            &[("[\"width\"", "[\"70000\"")],
            &["on a picture of one pixel: pass[0].dispatch[0] is 70000 groups"],
        ),
        (INVERT.replace("workgroup_size(1)", "workgroup_size(2048, 2)"), &[], &["workgroup"]),
    ] {
        let error = worker.load(&hook(&shader, changes)).expect_err(messages[0]);
        assert!(matches!(error, JobError::HookBroken(_)), "{error:?}");
        assert_eq!(error.advice(), Advice::ParkHook);
        let text = error.to_string();
        assert!(messages.iter().all(|message| text.contains(message)), "{messages:?}\n{text}");
    }
    assert!(worker.is_alive());
    run(&mut worker, &hook(INVERT, &[]), &photo()).unwrap();
}

#[test]
fn a_shader_out_of_bounds_harms_nothing() {
    let Some(mut worker) = gpu_worker() else { return };
    let wild = "
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
    output[id.x * 0x01000001u] = input[id.y * 0x7fffffffu] / (id.x - id.x);
}";
    run(&mut worker, &hook(wild, &[]), &photo()).unwrap();
    run(&mut worker, &ready("thumbnail"), &photo()).unwrap();
}

#[test]
fn bad_files_are_errors_of_the_file() {
    let mut worker = cpu_worker();
    let hook = ready("thumbnail");
    let photo = photo();
    for (content, message) in [
        (&b""[..], "the file is empty"),
        (b"Dear Sir or Madam", "the file is in no picture format that fsd reads"),
        (&photo[..photo.len() / 2], "the JPEG is cut off"),
    ] {
        let error = run(&mut worker, &hook, content).expect_err(message);
        assert!(matches!(error, JobError::BadInput(_)), "{error:?}");
        assert_eq!((error.to_string().as_str(), error.advice()), (message, Advice::ParkFile));
    }
    run(&mut worker, &hook, &photo).unwrap();
}

#[test]
fn limits_are_named_when_they_are_met() {
    let mut worker = start(&WorkerConfig { memory_bytes_max: 256 << 20, ..Default::default() });
    let large = bytes(&RgbImage::new(6000, 6000), ImageFormat::Png);
    let text = |limit: &str| {
        let ready = ready_hooks().iter().find(|ready| ready.name == "thumbnail").unwrap();
        let mut files = ready.source().files().clone();
        let text = String::from_utf8(files["hook.toml"].clone()).unwrap();
        let text = text.replace("kind = \"image\"", &format!("kind = \"image\"\n{limit}"));
        files.insert("hook.toml".to_owned(), text.into_bytes());
        Hook::parse(HookSource::new(files)).unwrap()
    };
    for (hook, message) in [
        (text("max_bytes = 100"), "the file is larger than input.max_bytes = 100"),
        (text("max_pixels = 1000"), "the picture has 6000 x 6000 pixels; input.max_pixels = 1000"),
        (text(""), "decoding 6000 x 6000 pixels needs 252"),
    ] {
        let error = run(&mut worker, &hook, &large).expect_err(message);
        assert!(matches!(error, JobError::OverLimit(_)), "{error:?}");
        assert_eq!(error.advice(), Advice::ParkFile);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let mut worker = start(&WorkerConfig { memory_bytes_max: 512 << 20, ..Default::default() });
    run(&mut worker, &text(""), &large).unwrap();
}

#[test]
fn a_picture_too_large_for_the_adapter_runs_on_the_twin() {
    let Some(mut worker) = gpu_worker() else { return };
    // 144 MB decoded; lavapipe binds 128 MiB.
    let large = bytes(&RgbImage::new(6000, 6000), ImageFormat::Png);
    let output = run(&mut worker, &ready("thumbnail"), &large).unwrap();
    match output.engine {
        Engine::Cpu => {
            let note = output.note.unwrap();
            assert!(
                note.starts_with("`input` needs 144000000 bytes; this adapter binds at most"),
                "{note}"
            );
        }
        Engine::Gpu => println!("SKIP: this adapter binds 144 MB"),
        Engine::Command | Engine::Container => panic!("it is no program"),
    }
    let error = run(&mut worker, &hook(INVERT, &[]), &large);
    assert!(matches!(error, Ok(_) | Err(JobError::OverLimit(_))), "{error:?}");
}

#[test]
fn a_shader_that_runs_too_long_ends_with_its_worker() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = hook(ENDLESS, &[("gpu_ms = 60_000", "gpu_ms = 300")]);
    let error = run(&mut worker, &hook, &photo()).expect_err("endless");
    assert!(matches!(error, JobError::Timeout(_)), "{error:?}");
    assert_eq!(error.to_string(), "the shaders ran longer than gpu_ms = 300");
    assert_eq!(error.advice(), Advice::Retry);
    assert!(!worker.is_alive() && ends(worker.pid()));
    let after = run(&mut worker, &hook, &photo()).expect_err("no worker");
    assert!(matches!(after, JobError::WorkerDied(_)), "{after:?}");
}

#[test]
fn past_the_deadline_the_worker_is_killed() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = hook(ENDLESS, &[]);
    worker.load(&hook).unwrap();
    let started = Instant::now();
    let deadline = Duration::from_millis(700);
    let error = worker.run(&hook, file(&photo()), deadline).expect_err("endless");
    assert_eq!(error.to_string(), "the job took longer than 700 ms");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(ends(worker.pid()));
}

#[test]
fn a_worker_that_does_not_answer_is_killed() {
    let mut worker = cpu_worker();
    kill(pid(&worker), Signal::SIGSTOP).unwrap();
    let hook = hook(INVERT, &[("compile_ms = 60_000", "compile_ms = 100")]);
    let error = worker.load(&hook).expect_err("stopped");
    assert_eq!(error.to_string(), "compiling took longer than 2100 ms");
    assert!(ends(worker.pid()));
}

#[test]
fn a_worker_killed_in_the_middle_is_told_from_a_bad_file() {
    let Some(mut worker) = gpu_worker() else { return };
    let hook = hook(ENDLESS, &[]);
    worker.load(&hook).unwrap();
    let victim = pid(&worker);
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        kill(victim, Signal::SIGABRT).unwrap();
    });
    let error = run(&mut worker, &hook, &photo()).expect_err("killed");
    killer.join().unwrap();
    assert!(matches!(error, JobError::WorkerDied(_)), "{error:?}");
    assert_eq!(error.to_string(), "the hook worker ended: signal: 6 (SIGABRT)");
    assert_eq!(error.advice(), Advice::Retry);
}

/// A worker without a [`WorkerProcess`], which would kill it.
fn orphan(allow_software_adapter: bool) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(EXECUTABLE)
        .arg(WORKER_ARGUMENT)
        .env("XDG_RUNTIME_DIR", "/")
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    let configure = json!({ "Configure": {
        "allow_software_adapter": allow_software_adapter,
        "memory_bytes_max": 1_u64 << 32,
    }});
    tell(&ours, &configure, None);
    (child, ours)
}

fn tell(socket: &UnixStream, message: &Value, fd: Option<&OwnedFd>) {
    let body = message.to_string();
    let header = [body.len(), fd.iter().len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
    let raw: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights };
    let header = [IoSlice::new(header.as_flattened())];
    sendmsg::<()>(socket.as_raw_fd(), &header, control, MsgFlags::empty(), None).unwrap();
    (&*socket).write_all(body.as_bytes()).unwrap();
}

fn hear(mut socket: &UnixStream) -> Value {
    let mut header = [0; 8];
    socket.read_exact(&mut header).unwrap();
    let length = u32::from_le_bytes(*header.first_chunk().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn an_idle_worker_ends_with_its_daemon() {
    let (mut child, socket) = orphan(false);
    assert!(hear(&socket)["Ready"]["sandbox"]["seccomp"].is_string());
    assert!(child.try_wait().unwrap().is_none(), "it waits for jobs");
    drop(socket);
    assert!(ends(child.id()));
    child.wait().unwrap();
}

#[test]
fn a_busy_worker_ends_with_its_daemon() {
    let (mut child, socket) = orphan(true);
    if hear(&socket)["Ready"]["adapter"]["Ok"].is_null() {
        println!("SKIP: no GPU test");
        return;
    }
    let hook = hook(ENDLESS, &[]);
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let files =
        hook.source().files().iter().map(|(name, bytes)| (name.clone(), text(bytes).into()));
    tell(&socket, &json!({ "Load": { "files": Value::Object(files.collect()) } }), None);
    assert_eq!(hear(&socket), json!({ "Loaded": { "engine": "gpu" } }));
    tell(&socket, &json!({ "Run": { "hook": "test" } }), Some(&file(&photo())));
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it works");
    drop(socket);
    assert!(ends(child.id()));
    child.wait().unwrap();
}

#[test]
fn a_worker_is_shut_in() {
    let leak = tempfile::tempfile().unwrap();
    fcntl(&leak, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let variable = ("VK_LOADER_DEBUG".into(), "none".into());
    let config = WorkerConfig { environment: vec![variable], ..Default::default() };
    let mut worker = start(&config);
    println!("{:?}", worker.hello());
    let proc = format!("/proc/{}", worker.pid());
    let leaked = fs::read_link(format!("{proc}/fd/{}", leak.as_raw_fd())).unwrap_or_default();
    assert_ne!(leaked, fs::read_link(format!("/proc/self/fd/{}", leak.as_raw_fd())).unwrap());
    let environment = fs::read_to_string(format!("{proc}/environ")).unwrap();
    let names: Vec<_> =
        environment.split_terminator('\0').filter_map(|entry| entry.split('=').next()).collect();
    assert_eq!(names, ["MESA_SHADER_CACHE_DISABLE", "VK_LOADER_DEBUG", "XDG_RUNTIME_DIR"]);
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max data size"), config.memory_bytes_max.to_string());
    for thread in fs::read_dir(format!("{proc}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
    // The file comes as a descriptor, wherever its position is.
    let mut photo_file = File::from(file(&photo()));
    photo_file.seek(std::io::SeekFrom::End(0)).unwrap();
    worker.run(&ready("sharpness"), photo_file.into(), LONG).unwrap();
}

#[test]
fn what_is_no_worker_is_an_error() {
    let config = WorkerConfig { start_max: Duration::from_millis(500), ..Default::default() };
    let none = WorkerProcess::spawn(Path::new("/nowhere/fsd"), &config).expect_err("no file");
    assert!(matches!(none, JobError::Start(_)), "{none:?}");
    let quits = WorkerProcess::spawn(Path::new("/bin/true"), &config).expect_err("not a worker");
    assert_eq!(quits.to_string(), "the hook worker ended: exit status: 0");
    let echo = WorkerProcess::spawn(Path::new("/bin/cat"), &config).expect_err("not a worker");
    assert!(matches!(echo, JobError::WorkerDied(_)), "{echo:?}");
    let output = Command::new(EXECUTABLE).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(text, "hook worker: standard input is not the daemon's socket\n");
}

fn pid(worker: &WorkerProcess) -> Pid {
    Pid::from_raw(i32::try_from(worker.pid()).unwrap())
}

/// Child processes of this one.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
    };
    tasks.flat_map(|task| of_task(task.unwrap())).collect()
}

#[test]
fn a_worker_that_stands_by_takes_the_place_of_one_that_is_gone() {
    let mut worker = start(&WorkerConfig { keep_spare: true, ..WorkerConfig::default() });
    run(&mut worker, &ready("thumbnail"), &photo()).unwrap();
    worker.keep_spare();
    let first = worker.pid();
    let begun = Instant::now();
    while children().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "none stands by");
        std::thread::sleep(Duration::from_millis(10));
    }
    let spare = children().into_iter().find(|pid| *pid != first);
    kill(pid(&worker), Signal::SIGKILL).unwrap();
    let error = run(&mut worker, &ready("thumbnail"), &photo()).expect_err("it is dead");
    assert!(matches!(error, JobError::WorkerDied(_)), "{error:?}");
    worker.restart().unwrap();
    assert_eq!(Some(worker.pid()), spare);
    run(&mut worker, &ready("thumbnail"), &photo()).unwrap();
    // One that did not live until it was needed is none.
    worker.keep_spare();
    while children().len() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    for pid in children() {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    }
    run(&mut worker, &ready("thumbnail"), &photo()).expect_err("it is dead");
    worker.restart().unwrap();
    run(&mut worker, &ready("thumbnail"), &photo()).unwrap();
}

#[test]
fn what_the_driver_compiled_is_kept_for_the_next_worker_and_may_be_nonsense() {
    if gpu_worker().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("gpu");
    let config = WorkerConfig {
        allow_software_adapter: true,
        cache_dir: Some(dir.clone()),
        ..WorkerConfig::default()
    };
    let kept = || {
        let mut files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let path = files.next().unwrap();
        assert!(files.next().is_none());
        (std::fs::read(&path).unwrap(), path)
    };
    run(&mut start(&config), &ready("thumbnail"), &photo()).unwrap();
    let (first, path) = kept();
    assert!(!first.is_empty());
    for nonsense in [&b""[..], b"nonsense", &[0xff; 4096], &first[..first.len() / 2]] {
        std::fs::write(&path, nonsense).unwrap();
        run(&mut start(&config), &ready("thumbnail"), &photo()).unwrap();
        assert_eq!(kept().0.len(), first.len(), "the driver's own takes its place");
    }
}
