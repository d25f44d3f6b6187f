//! Several files at once: each is told what it is told alone, and none pays for what another does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use image::{ImageFormat, Rgb, RgbImage};
use inference_hooks::{
    Advice, BATCH_FILES_MAX, Hook, HookSource, JobError, JobOutput, WorkerConfig, WorkerProcess,
    ready_hooks,
};
use nix::sys::signal::{Signal, kill};

use super::{
    ENDLESS, INVERT, LONG, bytes, cpu_worker, ends, file, gpu_worker, hook, photo, pid, ready,
    sensor_file, start,
};

type Said = Result<JobOutput, JobError>;

fn run_batch(worker: &mut WorkerProcess, hook: &Hook, contents: &[Vec<u8>]) -> Vec<Said> {
    let mut said = Vec::new();
    worker.run_batch(hook, &files(contents), LONG, |output| said.push(output));
    said
}

fn files(contents: &[Vec<u8>]) -> Vec<OwnedFd> {
    contents.iter().map(|content| file(content)).collect()
}

/// Pictures of all sizes and formats, and between them what is none.
fn pictures() -> Vec<Vec<u8>> {
    let sizes = [[1, 1], [64, 64], [63, 65], [300, 2], [2, 300], [640, 427], [40, 9], [500, 480]];
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp];
    let mut contents = Vec::new();
    for (number, [width, height]) in (0_u32..).zip(sizes.iter().cycle().take(40)) {
        let picture = RgbImage::from_fn(*width, *height, |x, y| {
            let mixed = (x * 7919 + y * 104_729 + number * 31).wrapping_mul(2_654_435_761);
            Rgb([mixed.to_le_bytes()[3], mixed.to_le_bytes()[2], (x + y + number).to_le_bytes()[0]])
        });
        contents.push(bytes(&picture, formats[number as usize % formats.len()]));
        match number {
            3 => contents.push(Vec::new()),
            11 => contents.push(b"Dear Sir or Madam".to_vec()),
            20 => contents.push(photo()[..9000].to_vec()),
            _ => {}
        }
    }
    contents
}

/// A ready hook with the time that a software adapter may need.
fn patient(name: &str, params: &str) -> Hook {
    let ready = ready_hooks().iter().find(|ready| ready.name == name).unwrap();
    let mut files = ready.source().files().clone();
    let text = String::from_utf8(files["hook.toml"].clone()).unwrap();
    let text = text.replace("gpu_ms = 5000", "gpu_ms = 60_000");
    let limits = if text.contains("[limits]") { "" } else { "[limits]\ngpu_ms = 60_000\n" };
    files.insert("hook.toml".to_owned(), format!("{text}\n{limits}").into_bytes());
    if !params.is_empty() {
        files.insert("params.toml".to_owned(), params.as_bytes().to_vec());
    }
    Hook::parse(HookSource::new(files)).unwrap()
}

/// Everything that is said of a file, to the last bit.
fn all_of(hook: &Hook, said: Said) -> Result<Vec<(String, String, Vec<u8>)>, String> {
    let output = said.map_err(|error| format!("{:?}: {error}", error.advice()))?;
    let json = ("json".to_owned(), output.to_json(hook).to_string(), Vec::new());
    let derived = output.derived.into_iter().map(|derived| {
        let (suffix, media_type) = (derived.suffix.clone(), derived.media_type.clone());
        (suffix, media_type, derived.read().unwrap())
    });
    Ok(std::iter::once(json).chain(derived).collect())
}

/// How many files of a batch failed, where each is told what it is told alone.
fn check(worker: &mut WorkerProcess, hook: &Hook, contents: &[Vec<u8>]) -> usize {
    let together = run_batch(worker, hook, contents);
    assert_eq!(together.len(), contents.len());
    let mut failed = 0;
    for (number, (said, content)) in together.into_iter().zip(contents).enumerate() {
        let said = all_of(hook, said);
        failed += usize::from(said.is_err());
        assert!(
            said == all_of(hook, worker.run(hook, file(content), LONG)),
            "{} of file {number} in a batch: {said:?}",
            hook.name()
        );
    }
    assert!(worker.is_alive());
    failed
}

fn check_ready_hooks(mut worker: WorkerProcess) {
    let pictures = pictures();
    for name in ["thumbnail", "sharpness", "privacy-blur"] {
        assert_eq!(check(&mut worker, &patient(name, ""), &pictures), 3, "{name}");
    }
    let day = sensor_file();
    let lines: Vec<_> = day.split_inclusive('\n').collect();
    let mut tables: Vec<_> = [2, 3, 40, 1441, 200, 90, 700, 41]
        .map(|count| lines[..count].concat().into_bytes())
        .to_vec();
    tables.insert(4, b"PAR1 and nothing else".to_vec());
    tables.push(b"a,b\n1,2\n3,4\n".to_vec());
    assert_eq!(check(&mut worker, &patient("telemetry", "window_seconds = 3600"), &tables), 1);
}

#[test]
fn on_the_gpu_a_file_of_a_batch_is_told_what_it_is_told_alone() {
    let Some(worker) = gpu_worker() else { return };
    check_ready_hooks(worker);
}

#[test]
fn on_the_cpu_a_file_of_a_batch_is_told_what_it_is_told_alone() {
    check_ready_hooks(cpu_worker());
}

#[test]
fn a_hook_that_asks_for_more_for_smaller_files_gets_it_in_a_batch() {
    let Some(mut worker) = gpu_worker() else { return };
    let shader = "
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
    let file = files[id.z];
    let groups = (64u + file.width - 1u) / file.width;
    for (var at = id.x; id.x < groups && at < file.len; at += groups) {
        output[file.out_offset + at] = input[file.offset + at] ^ 0x00ffffffu;
    }
}";
    let dispatch = ("[\"width\", \"height\"]", "[\"ceil(64 / width)\", \"1\"]");
    let picture = |width| bytes(&RgbImage::from_pixel(width, 9, Rgb([1, 2, 3])), ImageFormat::Png);
    let contents: Vec<_> = [64, 40, 63, 33, 2, 1, 70].map(picture).to_vec();
    assert_eq!(check(&mut worker, &hook(shader, &[dispatch]), &contents), 0);
}

#[test]
fn a_file_that_is_too_large_for_company_is_looked_at_alone() {
    // 108 MB for the decoder and 144 MB of pixels: a share of half of seven eighths, among cores, is less.
    let config = WorkerConfig { memory_bytes_max: 512 << 20, ..Default::default() };
    let mut contents = pictures();
    contents.truncate(6);
    contents.insert(2, bytes(&RgbImage::new(6000, 6000), ImageFormat::Png));
    assert_eq!(check(&mut start(&config), &ready("thumbnail"), &contents), 1);
    // And one that is too large even so is refused, and no other.
    let config = WorkerConfig { memory_bytes_max: 256 << 20, ..Default::default() };
    let mut worker = start(&config);
    let said = run_batch(&mut worker, &ready("thumbnail"), &contents);
    let refused = said.iter().map(|said| matches!(said, Err(JobError::OverLimit(_))));
    assert_eq!(refused.collect::<Vec<_>>(), [false, false, true, false, false, false, false]);
    assert_eq!(said.iter().filter(|said| said.is_ok()).count(), 5);
}

#[test]
fn a_batch_that_is_too_large_for_the_adapter_is_parted() {
    let Some(mut worker) = gpu_worker() else { return };
    // A buffer of 16 bytes for each of 640 x 427 pixels, and `limits.memory` for fewer than all of them.
    let shader = INVERT.replace("output[", "scratch[scratch_at(id.z)] = vec4<f32>(); output[");
    let changes = [
        ("[[pass]]", "[buffers]\nscratch = { type = \"vec4<f32>\", len = \"len\" }\n[[pass]]"),
        ("writes = [\"output\"]", "writes = [\"output\", \"scratch\"]"),
        ("[limits]", "[limits]\nmemory = \"24MiB\""),
    ];
    let contents = vec![photo(); 9];
    assert_eq!(check(&mut worker, &hook(&shader, &changes), &contents), 0);
}

#[test]
fn more_files_than_a_batch_may_have_are_several() {
    let mut worker = cpu_worker();
    let photo = photo();
    let contents = vec![photo; BATCH_FILES_MAX + 3];
    let said = run_batch(&mut worker, &ready("sharpness"), &contents);
    assert!(said.iter().all(Result::is_ok));
    assert_eq!(said.len(), BATCH_FILES_MAX + 3);
    assert!(run_batch(&mut worker, &ready("sharpness"), &[]).is_empty());
}

/// The place of the file that a hook does not come back from.
const POISON: usize = 4;

fn good_and_poison() -> (Hook, Vec<Vec<u8>>) {
    // Endless for the picture that begins with white.
    let shader = ENDLESS.replace(
        "    var sum",
        "    if input[files[id.z].offset] != 0xffffffffu { output[files[id.z].out_offset] = 7u; return; }\n    var sum",
    );
    let hook = hook(&shader, &[("gpu_ms = 60_000", "gpu_ms = 4000")]);
    let mut contents: Vec<_> = (0..9_u8)
        .map(|number| bytes(&RgbImage::from_pixel(9, 9, Rgb([number; 3])), ImageFormat::Png))
        .collect();
    contents[POISON] = bytes(&RgbImage::from_pixel(640, 427, Rgb([255; 3])), ImageFormat::Png);
    (hook, contents)
}

#[test]
fn one_file_that_the_shaders_never_end_with_costs_the_others_nothing() {
    let Some(mut worker) = gpu_worker() else { return };
    let (hook, contents) = good_and_poison();
    worker.load(&hook).unwrap();
    let first = worker.pid();
    let said = run_batch(&mut worker, &hook, &contents);
    for (number, said) in said.iter().enumerate() {
        match said {
            Ok(_) => assert_ne!(number, POISON),
            Err(error) => {
                assert_eq!(number, POISON, "{error:?}");
                assert!(matches!(error, JobError::Timeout(_)), "{error:?}");
                assert_eq!(error.advice(), Advice::Retry);
            }
        }
    }
    // Those after it had a new one.
    assert!(worker.is_alive() && worker.pid() != first && ends(first));
}

#[test]
fn a_batch_whose_worker_is_killed_is_looked_at_one_by_one() {
    for (signal, deadline) in [(Signal::SIGKILL, LONG), (Signal::SIGSTOP, Duration::from_secs(4))] {
        let mut worker = cpu_worker();
        worker.load(&ready("sharpness")).unwrap();
        let first = worker.pid();
        kill(pid(&worker), signal).unwrap();
        let mut contents = vec![photo(); 5];
        contents[2] = b"no picture".to_vec();
        let mut said = Vec::new();
        worker.run_batch(&ready("sharpness"), &files(&contents), deadline, |one| said.push(one));
        let is_good: Vec<_> = said.iter().map(Result::is_ok).collect();
        assert_eq!(is_good, [true, true, false, true, true], "{signal}: {said:?}");
        assert!(matches!(said[2], Err(JobError::BadInput(_))), "{said:?}");
        assert!(worker.is_alive() && worker.pid() != first && ends(first));
    }
}

#[test]
fn a_worker_that_ended_before_says_so_of_every_file() {
    let mut worker = cpu_worker();
    kill(pid(&worker), Signal::SIGKILL).unwrap();
    worker.run(&ready("sharpness"), file(&photo()), LONG).expect_err("killed");
    let said = run_batch(&mut worker, &ready("sharpness"), &[photo(), photo()]);
    assert!(said.iter().all(|said| matches!(said, Err(JobError::WorkerDied(_)))), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[test]
fn a_hook_that_is_broken_is_so_for_every_file() {
    let mut worker = cpu_worker();
    let broken = hook("fn main(", &[]);
    let said = run_batch(&mut worker, &broken, &[photo(), photo(), photo()]);
    let advice = said.iter().map(|said| said.as_ref().expect_err("broken").advice());
    assert_eq!(advice.collect::<Vec<_>>(), [Advice::ParkHook; 3]);
    assert!(worker.is_alive());
}
