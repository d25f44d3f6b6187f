//! Pictures dropped on the drive, and what hooks make of them; bad pictures and bad hooks, which harm nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{run, shell};
use fsd_tests::store::{Store, on_a_dir};
use fsd_tests::until;
use serde_json::{Value, json};
use tempfile::TempDir;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(super) fn ready_hooks() -> String {
    project("inference-hooks/hooks").to_string_lossy().into_owned()
}

pub(super) fn picture(name: &str) -> PathBuf {
    project("tests/pictures").join(name)
}

/// A drive whose hooks may run on Vulkan in software, for lack of a GPU.
fn drive(store: &Store, hooks: &[&str]) -> Result<Drive> {
    let mut variables = store.variables();
    variables.push(("FSD_ALLOW_SOFTWARE_GPU".to_owned(), "1".to_owned()));
    let options: Vec<&str> = hooks.iter().flat_map(|dir| ["--hooks", dir]).collect();
    Drive::over(store)?.with_variables(variables).with(&options).started()
}

fn jobs(drive: &Drive, state: &str) -> Result<Vec<Value>> {
    let jobs = drive.json(&["hooks", "jobs", "--state", state])?;
    Ok(jobs.as_array().context("no list of jobs")?.clone())
}

fn jobs_of<'a>(jobs: &'a [Value], path: &str) -> Vec<&'a Value> {
    jobs.iter().filter(|job| job["path"] == path).collect()
}

fn said(drive: &Drive, name: &str) -> Result<Value> {
    let path = drive.path("fsd-results").join(name);
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_slice(&text)?)
}

fn jobs_in(drive: &Drive, hook: &str, state: &str) -> Result<u64> {
    let hooks = drive.json(&["hooks", "list"])?;
    let found = hooks.as_array().and_then(|all| all.iter().find(|found| found["name"] == hook));
    found.and_then(|found| found["jobs"][state].as_u64()).context("no such hook")
}

#[test]
fn hooks_look_at_what_was_there_before_them_and_what_came_while_they_rested() -> Result<()> {
    on_a_dir(|store| {
        store.put("dir/there.png", &std::fs::read(picture("chelsea.png"))?)?;
        let mut drive = Drive::mounted(store)?;
        std::fs::copy(picture("rocket.jpg"), drive.path("here.jpg"))?;
        std::fs::write(drive.path("note.txt"), "no picture")?;
        drive.wait()?;
        ensure!(drive.terminate()?.success(), "{}", drive.log());
        let thumbnail = format!("{}/thumbnail", ready_hooks());
        drive.set_options(&["--hooks", &thumbnail]);
        drive.start()?;
        ensure!(jobs(&drive, "done")?.is_empty(), "nothing has arrived");
        let mount = drive.mount().to_string_lossy().into_owned();
        let begun = drive.json(&["hooks", "run", "thumbnail", &mount])?;
        ensure!(begun["files"] == 2 && begun["had"] == 0, "{begun}");
        drive.wait()?;
        ensure!(
            store.get("fsd-results/dir/there.png.thumb.jpg")?.is_some(),
            "also one never listed"
        );
        let again = drive.json(&["hooks", "run", "thumbnail", &mount])?;
        ensure!(again["files"] == 0 && again["had"] == 2, "{again}");
        ensure!(
            drive.run(&["hooks", "run", "nope", &mount])?.status.code() != Some(0),
            "no such hook"
        );

        let said = drive.run(&["hooks", "pause", "thumbnail"])?;
        ensure!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("paused"));
        for number in 0..5 {
            std::fs::copy(picture("rocket.jpg"), drive.path(&format!("{number}.jpg")))?;
        }
        until("they wait", || Ok(jobs_in(&drive, "thumbnail", "waiting")? == 5))?;
        drive.crash()?;
        ensure!(jobs_in(&drive, "thumbnail", "waiting")? == 5, "it rests after a crash, too");
        ensure!(drive.run(&["hooks", "resume"])?.status.success());
        drive.wait()?;
        ensure!(jobs_in(&drive, "thumbnail", "done")? == 7, "each is looked at once");
        Ok(())
    })
}

/// A hook folder of one shader that writes its input to a derived picture, with `body` for each pixel.
fn hook_folder(name: &str, body: &str) -> Result<TempDir> {
    let folder = TempDir::new()?;
    let text = format!(
        "[hook]\nname = \"{name}\"\napi = 1\nmatch = [\"*.png\"]\n[input]\nkind = \"image\"\n\
         [[pass]]\nshader = \"main.wgsl\"\nentry = \"main\"\ndispatch = [\"width\", \"height\"]\n\
         reads = [\"input\"]\nwrites = [\"output\"]\n[output.image]\nsuffix = \".{name}.png\"\nformat = \"png\"\n\
         [limits]\ngpu_ms = 1500\ncompile_ms = 20_000\nretries = 0\n"
    );
    let shader = format!(
        "@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n{body}\n}}\n"
    );
    std::fs::write(folder.path().join("hook.toml"), text)?;
    std::fs::write(folder.path().join("main.wgsl"), shader)?;
    Ok(folder)
}

#[test]
fn pictures_get_thumbnails_figures_and_attributes_which_are_uploaded_too() -> Result<()> {
    on_a_dir(|store| {
        let drive = drive(store, &[&ready_hooks()])?;
        std::fs::create_dir(drive.path("scans"))?;
        for name in ["chelsea.png", "clock_motion.png", "rocket.jpg"] {
            std::fs::copy(picture(name), drive.path("scans").join(name))?;
        }
        drive.wait()?;
        ensure!(jobs(&drive, "done")?.len() == 9, "{:?}", drive.json(&["hooks", "jobs"])?);
        let sharp = said(&drive, "scans/chelsea.png.sharpness.json")?;
        let blurred = said(&drive, "scans/clock_motion.png.sharpness.json")?;
        ensure!(sharp["result"]["blurred"] == false, "{sharp}");
        ensure!(blurred["result"]["blurred"] == true, "{blurred}");
        let thumbnail = std::fs::read(drive.path("fsd-results/scans/rocket.jpg.thumb.jpg"))?;
        ensure!(thumbnail.starts_with(&[0xff, 0xd8]), "the thumbnail is no JPEG");
        let attribute = xattr::get(drive.path("scans/rocket.jpg"), "user.fsd.hook.thumbnail")?;
        let attribute: Value = serde_json::from_slice(&attribute.context("no attribute")?)?;
        ensure!(attribute["width"] == 640, "{attribute}");
        let uploaded = store.files()?;
        ensure!(uploaded.get("fsd-results/scans/rocket.jpg.thumb.jpg") == Some(&thumbnail));
        let results =
            drive.json(&["hooks", "results", &drive.path("scans/rocket.jpg").to_string_lossy()])?;
        ensure!(results.as_array().is_some_and(|results| results.len() == 3), "{results}");
        let search = "blurred = true and luma_mean < 255";
        let found = drive.json(&["hooks", "results", "--where", search])?;
        ensure!(found.as_array().is_some_and(|found| found.len() == 1), "{found}");
        ensure!(found[0]["path"].as_str() == drive.path("scans/clock_motion.png").to_str());
        let below = drive.path("scans").to_string_lossy().into_owned();
        let found = drive.json(&["hooks", "results", &below, "--hook", "thumbnail"])?;
        ensure!(found.as_array().is_some_and(|found| found.len() == 3), "{found}");
        let wrong = drive.run(&["hooks", "results", "--where", "blurred"])?;
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        ensure!(!wrong.status.success() && said.contains("FIELD = VALUE"), "{said}");
        Ok(())
    })
}

#[test]
fn bad_pictures_fail_with_a_reason_and_good_ones_beside_them_do_not() -> Result<()> {
    on_a_dir(|store| {
        let drive = drive(store, &[&ready_hooks()])?;
        let rocket = std::fs::read(picture("rocket.jpg"))?;
        std::fs::write(drive.path("cut.jpg"), &rocket[..rocket.len() / 3])?;
        std::fs::write(drive.path("empty.png"), "")?;
        std::fs::write(drive.path("text.jpg"), "this is no picture")?;
        // 400 megapixels of nothing: 400 kB as a file.
        let bomb = "import sys, zlib, struct\n\
             def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))\n\
             row = zlib.compressobj(1); body = b''.join(row.compress(bytes(20001)) for _ in range(20000)) + row.flush()\n\
             open(sys.argv[1], 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 20000, 20000, 8, 0, 0, 0, 0)) + chunk(b'IDAT', body) + chunk(b'IEND', b''))";
        run(std::process::Command::new("python3").args(["-c", bomb]).arg(drive.path("bomb.png")))?;
        std::fs::write(drive.path("good.jpg"), &rocket)?;
        drive.wait()?;
        let failed = jobs(&drive, "failed")?;
        for path in ["cut.jpg", "empty.png", "text.jpg", "bomb.png"] {
            let of_this = jobs_of(&failed, path);
            ensure!(of_this.len() == 3, "{path}: {failed:?}");
            ensure!(
                of_this.iter().all(|job| job["error"].as_str().is_some_and(|e| !e.is_empty())),
                "{of_this:?}"
            );
        }
        let bomb = jobs_of(&failed, "bomb.png")[0]["error"].to_string();
        ensure!(bomb.contains("pixels"), "the limit is not named: {bomb}");
        ensure!(jobs_of(&jobs(&drive, "done")?, "good.jpg").len() == 3);
        ensure!(store.files()?.contains_key("cut.jpg"), "the file itself goes its way");
        Ok(())
    })
}

#[test]
fn a_hook_that_does_not_compile_is_parked_with_its_error_and_others_go_on() -> Result<()> {
    on_a_dir(|store| {
        let broken = hook_folder("broken", "let x: u32 = 1.5;")?;
        let drive = drive(store, &[&ready_hooks(), &broken.path().to_string_lossy()])?;
        std::fs::copy(picture("chelsea.png"), drive.path("a.png"))?;
        drive.wait()?;
        let parked = jobs(&drive, "parked")?;
        ensure!(parked.len() == 1 && parked[0]["hook"] == "broken", "{parked:?}");
        ensure!(
            parked[0]["error"].to_string().contains("main.wgsl:3"),
            "the place is not named: {}",
            parked[0]
        );
        ensure!(jobs(&drive, "done")?.len() == 3);
        let hooks = drive.json(&["hooks", "list"])?;
        let shown =
            hooks.as_array().context("no hooks")?.iter().find(|hook| hook["name"] == "broken");
        ensure!(shown.is_some_and(|hook| hook["error"].is_string()), "{hooks}");
        Ok(())
    })
}

#[test]
fn a_hook_that_never_ends_is_killed_its_file_is_parked_and_the_drive_goes_on() -> Result<()> {
    on_a_dir(|store| {
        let endless = "var sum = id.x;\n\
             for (var turn = 0u; turn < 60000u; turn++) { sum = sum * 1664525u + input[sum % arrayLength(&input)]; }\n\
             output[id.x % arrayLength(&output)] = sum;";
        let endless = hook_folder("endless", endless)?;
        let drive = drive(store, &[&ready_hooks(), &endless.path().to_string_lossy()])?;
        std::fs::copy(picture("chelsea.png"), drive.path("a.png"))?;
        until("the drive serves while the hook runs", || {
            shell(&drive.mount(), "echo x > beside && cat beside")?;
            Ok(!jobs(&drive, "parked")?.is_empty())
        })?;
        let parked = jobs(&drive, "parked")?;
        ensure!(parked.len() == 1 && parked[0]["hook"] == "endless", "{parked:?}");
        ensure!(parked[0]["error"].to_string().contains("ms"), "no word of time: {}", parked[0]);
        drive.wait()?;
        ensure!(jobs(&drive, "done")?.len() == 3, "the other hooks have looked");
        // A new worker takes the next picture.
        std::fs::copy(picture("rocket.jpg"), drive.path("b.jpg"))?;
        drive.wait()?;
        ensure!(jobs_of(&jobs(&drive, "done")?, "b.jpg").len() == 3);
        Ok(())
    })
}

#[test]
fn a_crash_loses_no_arrival_and_applies_each_result_once() -> Result<()> {
    on_a_dir(|store| {
        let mut drive = drive(store, &[&ready_hooks()])?;
        for round in 0..3 {
            for copy in 0..4 {
                std::fs::copy(
                    picture("clock_motion.png"),
                    drive.path(&format!("{round}-{copy}.png")),
                )?;
            }
            drive.crash()?;
        }
        drive.wait()?;
        let done = jobs(&drive, "done")?;
        ensure!(done.len() == 3 * 4 * 3, "{} jobs are done", done.len());
        for round in 0..3 {
            for copy in 0..4 {
                said(&drive, &format!("{round}-{copy}.png.thumbnail.json"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_adapters_of_a_machine_are_shown_and_a_software_one_is_no_gpu_until_asked_for() -> Result<()>
{
    on_a_dir(|store| {
        let drive = Drive::over(store)?;
        let found = drive.json(&["gpu"])?;
        let adapters = found["adapters"].as_array().context("no list of adapters")?;
        if adapters.iter().all(|report| report["adapter"]["software"] == true) {
            let why =
                found["tested"]["Err"].as_str().context("no GPU is there, but one was tested")?;
            ensure!(why.contains("software adapter"), "{why}");
        }
        let found = drive.json(&["gpu", "--software"])?;
        let kernels = found["tested"]["Ok"]["kernels"].as_array().context("nothing was tested")?;
        let agree = kernels.iter().filter(|kernel| kernel["agrees"] == true).count();
        ensure!(agree == 4 && kernels.len() == 4, "{found:#}");
        Ok(())
    })
}

/// The hook of the manual that measures loudness, as a folder.
fn loudness() -> Result<TempDir> {
    let manual = std::fs::read_to_string(project("inference-hooks/hooks/README.md"))?;
    let blocks: Vec<_> = manual.split("```").skip(1).step_by(2).collect();
    let at = blocks.iter().position(|block| block.contains("name = \"loudness\""));
    let at = at.context("the manual has no such hook")?;
    let folder = TempDir::new()?;
    let text = blocks[at].strip_prefix("toml").context("no TOML")?;
    let text = format!("{text}\n[limits]\ngpu_ms = 60_000\ncompile_ms = 60_000\n");
    std::fs::write(folder.path().join("hook.toml"), text)?;
    let shader = blocks.get(at + 1).and_then(|block| block.strip_prefix("wgsl"));
    std::fs::write(folder.path().join("loudness.wgsl"), shader.context("no shader")?)?;
    Ok(folder)
}

#[test]
fn a_sound_has_its_loudness_beside_it_and_a_bad_one_an_error() -> Result<()> {
    on_a_dir(|store| {
        let loudness = loudness()?;
        let drive = drive(store, &[&loudness.path().to_string_lossy()])?;
        // A second of a square wave at half of the scale, then one of silence.
        let mut sound =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data"
                .to_vec();
        sound.extend(32_000_u32.to_le_bytes());
        for frame in 0..16_000_u16 {
            let level = if frame / 8 % 2 == 0 { 16_384 } else { -16_384_i16 };
            sound.extend((if frame < 8_000 { level } else { 0 }).to_le_bytes());
        }
        std::fs::write(drive.path("ward.wav"), &sound)?;
        std::fs::write(drive.path("cut.wav"), &sound[..1_000])?;
        drive.wait()?;
        let failed = jobs(&drive, "failed")?;
        ensure!(failed.len() == 1 && failed[0]["path"] == "cut.wav", "{failed:?}");
        ensure!(failed[0]["error"].to_string().contains("the WAV is cut off"), "{failed:?}");
        let said = said(&drive, "ward.wav.loudness.json")?;
        ensure!(said["engine"] == "gpu", "{said}");
        ensure!(said["input"] == json!({ "channels": 1, "frames": 16_000 }), "{said}");
        let rms = said["result"]["rms"].as_f64().context("no rms")?;
        ensure!((rms - 0.125_f64.sqrt()).abs() < 1e-6, "{said}");
        ensure!(said["result"]["peak"] == 0.5 && said["result"]["clipped"] == false, "{said}");
        let table = std::fs::read_to_string(drive.path("fsd-results/ward.wav.loudness.csv"))?;
        let lines: Vec<_> = table.lines().collect();
        ensure!(lines.len() == 21, "{table}");
        ensure!(lines[10] == "0.9,0,800,0.5,0.5" && lines[11] == "1.0,0,800,0.0,0.0", "{table}");
        let uploaded = store.files()?;
        ensure!(uploaded.get("fsd-results/ward.wav.loudness.csv") == Some(&table.into_bytes()));
        ensure!(uploaded.get("ward.wav") == Some(&sound));
        Ok(())
    })
}
