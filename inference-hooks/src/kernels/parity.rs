//! The parity test of a ready hook: the same pictures through its shaders and through its CPU twin.

use image::RgbaImage;

use super::CpuOutput;
use super::apart::apart;
pub(super) use super::apart::picture;
use crate::gpu::Gpu;
use crate::hook::{Hook, HookSource};
use crate::ready::ready_hooks;

/// Sizes with every kind of edge: one pixel, less than a group, odd, one longer than a shader invocation may loop
/// on lavapipe, and one that shrinks.
pub(super) const SIZES: &[[u32; 2]] =
    &[[1, 1], [3, 5], [2, 300], [640, 427], [1, 70_000], [70_000, 1], [1031, 769]];

/// A ready hook with some files in place of its own, and with the time that a software adapter may need.
pub(super) fn ready_hook(name: &str, changes: &[(&str, &str)]) -> Hook {
    let ready = ready_hooks().iter().find(|ready| ready.name == name).unwrap();
    let mut files = ready.source().files().clone();
    for (file, text) in changes {
        files.insert((*file).to_owned(), text.as_bytes().to_vec());
    }
    let text = String::from_utf8(files["hook.toml"].clone()).unwrap();
    let text = text.replace("gpu_ms = 5000", "gpu_ms = 300_000");
    let limits = if text.contains("[limits]") { "" } else { "[limits]\ngpu_ms = 300_000\n" };
    files.insert("hook.toml".to_owned(), format!("{text}\n{limits}").into_bytes());
    Hook::parse(HookSource::new(files)).unwrap()
}

pub(super) fn on_cpu(hook: &Hook, image: &RgbaImage) -> CpuOutput {
    super::apart::on_cpu(hook, image).unwrap()
}

/// Runs all sizes on both engines, alone and in one batch.
pub(super) fn check(gpu: &Gpu, hook: &Hook) {
    let compiled = gpu.compile(hook).unwrap();
    let images: Vec<_> = SIZES.iter().map(|size| picture(*size)).collect();
    let expected: Vec<_> = images.iter().map(|image| on_cpu(hook, image)).collect();
    let mut batch = gpu.run(hook, &compiled, &images[..4]).unwrap();
    for image in &images {
        batch.extend(gpu.run(hook, &compiled, std::slice::from_ref(image)).unwrap());
    }
    let expected = expected[..4].iter().chain(&expected);
    let sizes = SIZES[..4].iter().chain(SIZES);
    let tolerance = hook.cpu_twin().unwrap().tolerance;
    for ((found, expected), size) in batch.iter().zip(expected).zip(sizes) {
        let found = apart(found, expected).unwrap_or_else(|why| panic!("{size:?}: {why}"));
        assert!(found.is_within(tolerance), "{} of {size:?}: {found:?}", hook.name());
    }
}
