//! The parity test of a ready hook: the same pictures through its shaders and through its CPU twin.

use image::{Rgba, RgbaImage};
use serde_json::{Map, Value};

use super::{CpuInput, CpuOutput};
use crate::gpu::{Gpu, GpuOutput};
use crate::hook::{Hook, HookSource};
use crate::ready::ready_hooks;

/// Sizes with every kind of edge: one pixel, less than a group, odd, one longer than a shader invocation may loop
/// on lavapipe, and one that shrinks.
pub(super) const SIZES: &[[u32; 2]] =
    &[[1, 1], [3, 5], [2, 300], [640, 427], [1, 70_000], [70_000, 1], [1031, 769]];

/// How far GPU and CPU may be apart.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    /// For each channel of each pixel.
    pub(super) channel: u8,
    /// For each number, relative to the larger one or to 1.
    pub(super) relative: f64,
}

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

/// A picture that is the same each time: slopes, noise, hard edges and transparency.
pub(super) fn picture([width, height]: [u32; 2]) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).rotate_left(13);
        let [noise, alpha, ..] = noise.wrapping_mul(3_266_489_917).to_le_bytes();
        let slope = u8::try_from(x * 255 / width).unwrap();
        let edge = if (x / 37 + y / 23) % 2 == 0 { 255 } else { 0 };
        let alpha = if y % 11 == 0 { alpha } else { 255 };
        Rgba([slope, noise, edge, alpha])
    })
}

pub(super) fn on_cpu(hook: &Hook, image: &RgbaImage) -> CpuOutput {
    let output_size = hook.output_size(image.width(), image.height()).unwrap();
    (hook.cpu_twin().unwrap().run)(&CpuInput { image, params: hook.params(), output_size })
}

/// Runs all sizes on both engines, alone and in one batch.
pub(super) fn check(gpu: &Gpu, hook: &Hook, tolerance: Tolerance) {
    let compiled = gpu.compile(hook).unwrap();
    let images: Vec<_> = SIZES.iter().map(|size| picture(*size)).collect();
    let expected: Vec<_> = images.iter().map(|image| on_cpu(hook, image)).collect();
    let mut batch = gpu.run(hook, &compiled, &images[..4]).unwrap();
    for image in &images {
        batch.extend(gpu.run(hook, &compiled, std::slice::from_ref(image)).unwrap());
    }
    let expected = expected[..4].iter().chain(&expected);
    let sizes = SIZES[..4].iter().chain(SIZES);
    for ((found, expected), size) in batch.iter().zip(expected).zip(sizes) {
        compare(found, expected, tolerance, &format!("{} of {size:?}", hook.name()));
    }
}

fn compare(found: &GpuOutput, expected: &CpuOutput, tolerance: Tolerance, what: &str) {
    match (&found.image, &expected.image) {
        (None, None) => {}
        (Some(found), Some(expected)) => {
            assert_eq!(found.dimensions(), expected.dimensions(), "{what}");
            let pairs = found.as_raw().iter().zip(expected.as_raw());
            let worst = pairs.map(|(found, expected)| found.abs_diff(*expected)).max().unwrap();
            assert!(worst <= tolerance.channel, "{what}: channels differ by {worst}");
        }
        (found, expected) => panic!("{what}: {} and {}", found.is_some(), expected.is_some()),
    }
    compare_fields(&found.fields, &expected.fields, tolerance, what);
}

fn compare_fields(
    found: &Map<String, Value>,
    expected: &Map<String, Value>,
    tolerance: Tolerance,
    what: &str,
) {
    let names = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (name, found) in found {
        let expected = &expected[name];
        match (found.as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => {
                let scale = found.abs().max(expected.abs()).max(1.0);
                let apart = (found - expected).abs() / scale;
                assert!(apart <= tolerance.relative, "{what}: {name}: {found} and {expected}");
            }
            (_, _) => assert_eq!(found, expected, "{what}: {name}"),
        }
    }
}
