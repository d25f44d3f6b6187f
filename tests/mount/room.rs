//! A cache that is smaller than what goes through it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use fsd::rng::Rng;
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, shell};
use fsd_tests::proxy::Network;
use fsd_tests::store::on_s3;

const MIB: usize = 1 << 20;
const FILES: u64 = 12;
const FILE_BYTES: usize = 10 * MIB + 777;

fn used(drive: &Drive) -> Result<u64> {
    drive.json(&["status"])?["cache"]["bytes_used"].as_u64().context("status has no bytes_used")
}

#[test]
fn what_was_evicted_comes_back_right_and_can_be_changed() -> Result<()> {
    on_s3(|store| {
        let drive = Drive::over(store)?.with(&["--cache-size", "64MiB"]).started()?;
        let mut model: Vec<Vec<u8>> = (0..FILES).map(|n| noise(n, FILE_BYTES)).collect();
        for (n, body) in model.iter().enumerate() {
            std::fs::write(drive.path(&format!("f{n}")), body)?;
        }
        drive.wait()?;
        ensure!(used(&drive)? <= 65 * MIB as u64, "{} bytes are used", used(&drive)?);
        let mut rng = Rng::new(1);
        let mut below = |end: usize| usize::try_from(rng.below(end as u64)).unwrap_or(0);
        for _ in 0..150 {
            let (n, at) = (below(model.len()), below(FILE_BYTES + 5000));
            let mut buffer = vec![0; 1 + below(300_000)];
            let count =
                File::open(drive.path(&format!("f{n}")))?.read_at(&mut buffer, at as u64)?;
            let end = FILE_BYTES.min(at + buffer.len());
            ensure!(buffer[..count] == model[n][at.min(end)..end], "f{n} at {at}: {count} bytes");
        }
        // Cold files are changed in part: over the middle, at the end, behind the end, cut short, cut and grown.
        for (n, body) in model.iter_mut().enumerate() {
            let path = drive.path(&format!("f{n}"));
            let patch = noise(100 + n as u64, 1 + below(400_000));
            match n % 6 {
                0 => {
                    let at = below(FILE_BYTES - patch.len());
                    File::options().write(true).open(path)?.write_all_at(&patch, at as u64)?;
                    body[at..at + patch.len()].copy_from_slice(&patch);
                }
                1 => {
                    File::options().append(true).open(path)?.write_all(&patch)?;
                    body.extend(&patch);
                }
                2 => {
                    let at = FILE_BYTES + below(MIB);
                    File::options().write(true).open(path)?.write_all_at(&patch, at as u64)?;
                    body.resize(at, 0);
                    body.extend(&patch);
                }
                3 => {
                    let size = below(FILE_BYTES);
                    File::options().write(true).open(path)?.set_len(size as u64)?;
                    body.truncate(size);
                }
                4 => {
                    let (size, grown) = (below(FILE_BYTES), FILE_BYTES + below(MIB));
                    let file = File::options().write(true).open(path)?;
                    file.set_len(size as u64)?;
                    file.set_len(grown as u64)?;
                    body.truncate(size);
                    body.resize(grown, 0);
                }
                _ => {
                    std::fs::write(path, &patch)?;
                    *body = patch;
                }
            }
        }
        for (n, body) in model.iter().enumerate() {
            let found = std::fs::read(drive.path(&format!("f{n}")))?;
            ensure!(found == *body, "f{n} on the mount: {} for {} bytes", found.len(), body.len());
        }
        drive.wait()?;
        for (n, body) in model.iter().enumerate() {
            let found = store.get(&format!("f{n}"))?.context("an object")?;
            ensure!(found == *body, "f{n} in the store: {} for {} bytes", found.len(), body.len());
        }
        Ok(())
    })
}

#[test]
fn a_cache_full_of_what_is_not_uploaded_says_so_and_recovers() -> Result<()> {
    on_s3(|store| {
        let (proxy, variables) = store.behind_a_proxy()?;
        let drive = Drive::over(store)?
            .with(&["--cache-size", "64MiB"])
            .with_variables(variables)
            .started()?;
        ensure!(drive.mount().read_dir()?.count() == 0, "its names are known");
        proxy.set(Network::Refusing);
        let mut bodies = Vec::new();
        let full = loop {
            let n = bodies.len();
            ensure!(n < 20, "the cache takes more than it holds");
            let body = noise(n as u64, 8 * MIB);
            if let Err(error) = std::fs::write(drive.path(&format!("f{n}")), &body) {
                break error;
            }
            bodies.push(body);
        };
        ensure!(full.raw_os_error() == Some(libc::ENOSPC), "{full}");
        ensure!(bodies.len() >= 6, "only {} files fit", bodies.len());
        for (n, body) in bodies.iter().enumerate() {
            ensure!(std::fs::read(drive.path(&format!("f{n}")))? == *body, "f{n}");
        }
        proxy.set(Network::Up);
        std::fs::write(drive.path(&format!("f{}", bodies.len())), noise(0, 8 * MIB))?;
        bodies.push(noise(0, 8 * MIB));
        drive.wait()?;
        for (n, body) in bodies.iter().enumerate() {
            ensure!(store.get(&format!("f{n}"))?.as_ref() == Some(body), "f{n} in the store");
        }
        Ok(())
    })
}

#[test]
fn a_file_larger_than_the_cache_is_read_and_changed() -> Result<()> {
    on_s3(|store| {
        let mut body = noise(1, 100 * MIB + 5);
        store.put("big", &body)?;
        let drive = Drive::over(store)?.with(&["--cache-size", "64MiB"]).started()?;
        let path = drive.path("big");
        ensure!(std::fs::read(&path)? == body, "it reads as other bytes");
        let patch = noise(2, 200_000);
        File::options().write(true).open(&path)?.write_all_at(&patch, 90 * MIB as u64)?;
        body[90 * MIB..90 * MIB + patch.len()].copy_from_slice(&patch);
        ensure!(std::fs::read(&path)? == body, "changed, it reads as other bytes");
        drive.wait()?;
        ensure!(store.get("big")?.as_ref() == Some(&body), "it was uploaded as other bytes");
        ensure!(std::fs::read(&path)? == body, "uploaded, it reads as other bytes");
        ensure!(used(&drive)? <= 65 * MIB as u64, "{} bytes are used", used(&drive)?);
        Ok(())
    })
}

#[test]
fn what_is_not_here_can_be_read_while_the_cache_is_full_of_what_is_not_uploaded() -> Result<()> {
    on_s3(|store| {
        let body = noise(1, 20 * MIB + 5);
        store.put("cold", &body)?;
        let drive = Drive::over(store)?
            .with(&["--cache-size", "64MiB", "--bwlimit-up", "64KiB"])
            .started()?;
        for n in 0..5 {
            std::fs::write(drive.path(&format!("f{n}")), noise(n, 10 * MIB))?;
        }
        ensure!(std::fs::read(drive.path("cold"))? == body, "it reads as other bytes");
        for n in 0..5 {
            ensure!(std::fs::read(drive.path(&format!("f{n}")))? == noise(n, 10 * MIB), "f{n}");
        }
        Ok(())
    })
}

#[test]
fn what_is_written_to_a_file_that_is_partly_here_survives_though_it_is_never_closed() -> Result<()>
{
    on_s3(|store| {
        let mut body = noise(1, 8 * MIB);
        store.put("cold", &body)?;
        let mut drive = Drive::mounted(store)?;
        let file = File::options().read(true).write(true).open(drive.path("cold"))?;
        for (n, at) in [3_000_000, 100, 3_100_000, 8 * MIB - 50].into_iter().enumerate() {
            let patch = noise(10 + n as u64, 1000);
            file.write_all_at(&patch, at as u64)?;
            body.resize(body.len().max(at + patch.len()), 0);
            body[at..at + patch.len()].copy_from_slice(&patch);
        }
        drive.crash()?;
        ensure!(std::fs::read(drive.path("cold"))? == body, "it is not as it was written");
        drop(file);
        drive.wait()?;
        ensure!(store.get("cold")?.as_ref() == Some(&body), "it was uploaded as other bytes");
        Ok(())
    })
}

#[test]
fn a_file_that_is_partly_here_can_be_read_and_mapped_after_its_name_is_gone() -> Result<()> {
    on_s3(|store| {
        let body = noise(1, 20 * MIB);
        for name in ["unlinked", "replaced", "mapped"] {
            store.put(name, &body)?;
        }
        let drive = Drive::mounted(store)?;
        let open = |name: &str| File::options().read(true).write(true).open(drive.path(name));
        let (unlinked, replaced) = (open("unlinked")?, open("replaced")?);
        let mut part = vec![0; 4096];
        unlinked.read_exact_at(&mut part, 0)?;
        std::fs::remove_file(drive.path("unlinked"))?;
        std::fs::write(drive.path("new"), b"new")?;
        std::fs::rename(drive.path("new"), drive.path("replaced"))?;
        for file in [unlinked, replaced] {
            let mut found = vec![0; body.len()];
            file.read_exact_at(&mut found, 0)?;
            ensure!(found == body, "it reads as other bytes");
            file.write_all_at(b"x", 17 * MIB as u64)?;
        }
        // A page of a map goes to its place, also of a file that is appended to.
        let map = "import mmap, os
f = os.open('mapped', os.O_RDWR | os.O_APPEND)
with mmap.mmap(f, 0) as m: m[5000:5004] = b'WXYZ'
os.close(f)";
        std::fs::write(drive.state().join("map.py"), map)?;
        shell(&drive.mount(), &format!("python3 {}", drive.state().join("map.py").display()))?;
        let mut mapped = body;
        mapped[5000..5004].copy_from_slice(b"WXYZ");
        ensure!(std::fs::read(drive.path("mapped"))? == mapped, "mapped on the mount");
        drive.wait()?;
        ensure!(store.get("mapped")?.as_ref() == Some(&mapped), "mapped in the store");
        ensure!(store.get("replaced")?.as_deref() == Some(b"new"), "replaced in the store");
        Ok(())
    })
}
