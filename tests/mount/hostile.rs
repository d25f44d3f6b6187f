//! Everything that wishes hooks ill, at once, with good files among it: each is a clear error of its own, and the good ones pass.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::store::{Store, on_a_dir};
use fsd_tests::until;
use image::{ExtendedColorType, ImageEncoder as _};
use serde_json::Value;
use tempfile::TempDir;

use super::hooks::{picture, ready_hooks};

const GOOD: usize = 20;

/// Shaders that are no good, and a part of what is said of each. They look at `*.HOOK`.
fn shaders() -> Vec<(&'static str, String, &'static str)> {
    let per_pixel = |body: &str| {
        format!(
            "@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n{body}\n}}\n"
        )
    };
    let bomb: String = (1..24)
        .map(|n| format!("fn f{n}(x: u32) -> u32 {{ return f{0}(x) + f{0}(x + 1u); }}\n", n - 1))
        .collect();
    let bomb = format!(
        "fn f0(x: u32) -> u32 {{ return x * 3u; }}\n{bomb}{}",
        per_pixel("output[0] = f23(id.x);")
    );
    let endless = per_pixel(
        "var sum = id.x;\nloop { sum = sum * 1664525u + input[sum % arrayLength(&input)]; if sum == 7u && id.x == 77777777u { break; } }\n\
         output[id.x % arrayLength(&output)] = sum;",
    );
    let wild = per_pixel("output[id.x * 0x01000001u] = input[id.y * 0x7fffffffu] / (id.x - id.x);");
    vec![
        ("bomb", bomb, "call the same function less often"),
        ("endless", endless, "ms"),
        ("wild", wild, ""),
        ("broken", per_pixel("let x: u32 = 1.5;"), "main.wgsl:3"),
    ]
}

/// Programs that are no good: what each does, its limits, and a part of what is said of it. They look at `*.HOOK`.
fn programs(port: u16, outside: &Path) -> Vec<(&'static str, String, &'static str, &'static str)> {
    let outside = outside.display();
    vec![
        (
            "outside",
            format!(
                "for to in [\"{outside}/made\", \"/etc/made\", \"/hook/made\", \"../made\", \"/input\"]:\n\
                 \x20 try: open(to, \"w\").write(\"x\")\n  except OSError: pass\n\
                 open(\"result.json\", \"w\").write('{{\"tried\": true}}')"
            ),
            "",
            "",
        ),
        (
            "socket",
            format!("import socket\nsocket.create_connection((\"127.0.0.1\", {port}), 2)"),
            "",
            "Connection refused",
        ),
        (
            "fork",
            "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass".to_owned(),
            "time_ms = 1500",
            "ms",
        ),
        (
            "much",
            "open(\"result.json\", \"w\").write(\"x\" * (64 << 20))".to_owned(),
            "output = \"1MiB\"",
            "File too large",
        ),
        ("memory", "x = b\"x\" * (1 << 30)".to_owned(), "memory = \"64MiB\"", ""),
        ("spin", "while True: pass".to_owned(), "time_ms = 1500", "ms"),
    ]
}

fn write_hooks(root: &Path, port: u16, outside: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, shader, _) in shaders() {
        let text = format!(
            "[hook]\nname = \"{name}\"\napi = 1\nmatch = [\"*.{name}\"]\n[input]\nkind = \"image\"\n\
             [[pass]]\nshader = \"main.wgsl\"\nentry = \"main\"\ndispatch = [\"width\", \"height\"]\n\
             reads = [\"input\"]\nwrites = [\"output\"]\n[output.image]\nsuffix = \".{name}.png\"\nformat = \"png\"\n\
             [limits]\ngpu_ms = 1500\ncompile_ms = 20_000\nretries = 0\n"
        );
        std::fs::create_dir(root.join(name))?;
        std::fs::write(root.join(name).join("hook.toml"), text)?;
        std::fs::write(root.join(name).join("main.wgsl"), shader)?;
        names.push(name.to_owned());
    }
    // So much memory for each pixel that no machine has it.
    let huge = "[hook]\nname = \"huge\"\napi = 1\nmatch = [\"*.huge\"]\n[input]\nkind = \"image\"\n\
         [buffers]\nmuch = { type = \"u32\", len = \"width * height * 10000\" }\n\
         [[pass]]\nshader = \"main.wgsl\"\nentry = \"main\"\ndispatch = [\"1\", \"1\"]\n\
         reads = [\"input\"]\nwrites = [\"much\", \"report\"]\n[output.json.fields]\nx = \"u32\"\n[limits]\nretries = 0\n";
    let shader = "@compute @workgroup_size(1)\nfn main(@builtin(global_invocation_id) id: vec3<u32>) {\n\
         much[0] = input[0]; report[id.z].x = much[0];\n}\n";
    std::fs::create_dir(root.join("huge"))?;
    std::fs::write(root.join("huge/hook.toml"), huge)?;
    std::fs::write(root.join("huge/main.wgsl"), shader)?;
    names.push("huge".to_owned());
    for (name, python, limits, _) in programs(port, outside) {
        let text = format!(
            "[hook]\nname = \"{name}\"\napi = 1\nmatch = [\"*.{name}\"]\n[command]\nprogram = \"run.py\"\n\
             [output.json]\nfields = {{ tried = \"bool\" }}\n[limits]\nretries = 0\n{limits}\n"
        );
        std::fs::create_dir(root.join(name))?;
        std::fs::write(root.join(name).join("hook.toml"), text)?;
        std::fs::write(root.join(name).join("run.py"), format!("#!/usr/bin/python3\n{python}\n"))?;
        std::fs::set_permissions(root.join(name).join("run.py"), PermissionsExt::from_mode(0o755))?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Files that are no good, and a part of what is said of each.
fn write_files(drive: &Drive) -> Result<Vec<(&'static str, &'static str)>> {
    let rocket = std::fs::read(picture("rocket.jpg"))?;
    let chelsea = std::fs::read(picture("chelsea.png"))?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(drive.path(name), bytes);
    write("cut.jpg", &rocket[..rocket.len() / 3])?;
    write("empty.png", b"")?;
    write("text.jpg", b"this is no picture")?;
    // Two gigabytes of zeros, in a file that takes no room.
    File::create(drive.path("large.png"))?.set_len(2 << 30)?;
    write("bomb.png", &bomb()?)?;
    // Headers that say more than there is: 65,500 pixels each way, and chunks of gigabytes.
    let mut wide = rocket;
    let frame = wide.windows(2).position(|two| two == [0xff, 0xc0]).context("no frame")?;
    for at in [frame + 5, frame + 7] {
        wide[at..at + 2].copy_from_slice(&65_500_u16.to_be_bytes());
    }
    write("wide.jpg", &wide)?;
    let mut lying = chelsea;
    lying[33..37].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    write("lying.png", &lying)?;
    let columns = vec!["c"; 1_000_000].join(",");
    write("columns.csv", format!("{columns}\n{}\n", vec!["1"; 1_000_000].join(",")).as_bytes())?;
    write("latin.csv", b"time,value\n1,\xff\xfe\n2,\xc3\x28\n")?;
    Ok(vec![
        ("cut.jpg", ""),
        ("empty.png", ""),
        ("text.jpg", ""),
        ("large.png", "bytes that the hook takes"),
        ("bomb.png", "pixels"),
        ("wide.jpg", "pixels"),
        ("lying.png", ""),
        ("columns.csv", "columns"),
        ("latin.csv", ""),
    ])
}

/// A PNG of 400 megapixels of nothing: 400 kB as a file.
fn bomb() -> Result<Vec<u8>> {
    const SIDE: u32 = 20_000;
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let pixels = vec![0; (SIDE * SIDE) as usize];
    encoder.write_image(&pixels, SIDE, SIDE, ExtendedColorType::L8)?;
    Ok(bytes)
}

fn jobs(drive: &Drive) -> Result<Vec<Value>> {
    let jobs = drive.json(&["hooks", "jobs", "--limit", "1000"])?;
    Ok(jobs.as_array().context("no list of jobs")?.clone())
}

fn start(store: &Store, hooks: &Path) -> Result<Drive> {
    let mut variables = store.variables();
    variables.push(("FSD_ALLOW_SOFTWARE_GPU".to_owned(), "1".to_owned()));
    let (ready, hooks) = (ready_hooks(), hooks.to_string_lossy().into_owned());
    let options = ["--hooks", &ready, "--hooks", &hooks];
    Drive::over(store)?.with_variables(variables).with(&options).started()
}

#[test]
fn each_is_an_error_of_its_own_and_good_files_among_them_pass() -> Result<()> {
    if !Path::new("/usr/bin/bwrap").exists() {
        println!("SKIP: bubblewrap is not installed");
        return Ok(());
    }
    let (hooks, outside) = (TempDir::new()?, TempDir::new()?);
    std::fs::set_permissions(outside.path(), PermissionsExt::from_mode(0o777))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let names = write_hooks(hooks.path(), port, outside.path())?;
    on_a_dir(|store| {
        let drive = start(store, hooks.path())?;
        let good = std::fs::read(picture("chelsea.png"))?;
        let good_ones: Vec<_> = (0..GOOD).map(|number| format!("good-{number}.png")).collect();
        for name in &good_ones[..GOOD / 2] {
            std::fs::write(drive.path(name), &good)?;
        }
        let bad = write_files(&drive)?;
        for name in &names {
            std::fs::write(drive.path(&format!("file.{name}")), &good)?;
        }
        for name in &good_ones[GOOD / 2..] {
            std::fs::write(drive.path(name), &good)?;
        }
        // A name that is not UTF-8.
        let odd = std::ffi::OsStr::from_bytes(b"odd-\xff\xfe.png");
        std::fs::write(drive.mount().join(odd), &good)?;
        until("all are looked at", || {
            let jobs = jobs(&drive)?;
            let is_over =
                |job: &Value| !matches!(job["state"].as_str(), Some("waiting" | "running"));
            let count = 3 * (GOOD + bad.len() - 2 + 1) + 2 + names.len();
            Ok(jobs.len() == count && jobs.iter().all(is_over))
        })?;
        let jobs = jobs(&drive)?;
        let of = |path: &str| jobs.iter().filter(|job| job["path"] == path).collect::<Vec<_>>();
        for name in &good_ones {
            let done = of(name).iter().filter(|job| job["state"] == "done").count();
            ensure!(done == 3, "{name}: {:?}", of(name));
        }
        for (name, why) in bad {
            for job in of(name) {
                let error = job["error"].as_str().unwrap_or_default();
                ensure!(job["state"] == "failed" && !error.is_empty(), "{job}");
                ensure!(error.contains(why), "{name}: {error}");
            }
        }
        let said = shaders().into_iter().map(|(name, _, why)| (name, why));
        let said = said.chain(programs(port, outside.path()).into_iter().map(|p| (p.0, p.3)));
        for (name, why) in said.chain([("huge", "this adapter binds at most")]) {
            let found = of(&format!("file.{name}"));
            ensure!(found.len() == 1, "{name}: {found:?}");
            let is_harmless = matches!(name, "wild" | "outside");
            let state = found[0]["state"].as_str().unwrap_or_default();
            ensure!((state == "done") == is_harmless, "{}", found[0]);
            let error = found[0]["error"].as_str().unwrap_or_default();
            ensure!(error.contains(why), "{name}: {error}");
            ensure!(is_harmless || !error.is_empty(), "{}", found[0]);
        }
        ensure!(std::fs::read_dir(outside.path())?.next().is_none(), "a program wrote outside");
        ensure!(!Path::new("/etc/made").exists() && !hooks.path().join("made").exists());
        let untouched = std::fs::read(drive.path("file.outside"))?;
        ensure!(untouched == good, "a program wrote to its input");
        ensure!(listener.accept().is_err(), "a program came through to the network");
        // The drive is as well as before, and the files themselves go their way.
        drive.wait()?;
        let there = store.files()?;
        ensure!(there.get("good-3.png") == Some(&good) && there.contains_key("cut.jpg"));
        let sparse = File::open(drive.path("large.png"))?;
        let mut end = [1; 4];
        sparse.read_exact_at(&mut end, (2 << 30) - 4)?;
        ensure!(end == [0; 4] && there.len() > GOOD * 3);
        Ok(())
    })
}
