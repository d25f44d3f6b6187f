use std::collections::BTreeMap;

use image::RgbaImage;

use super::*;
use crate::hook::{Hook, HookSource};
use crate::ready::ready_hooks;

/// A device, or a line that says that the test did not run.
#[expect(clippy::print_stdout, reason = "skips are printed and counted")]
pub(crate) fn gpu() -> Option<Gpu> {
    Gpu::open(true).inspect_err(|why| println!("SKIP: no GPU test: {why}")).ok()
}

impl Gpu {
    /// As on an adapter that binds no more.
    pub(crate) fn binding_at_most(mut self, bytes: u64) -> Self {
        self.limits.max_storage_buffer_binding_size = bytes;
        self
    }
}

fn sharpness() -> Hook {
    let ready = ready_hooks().iter().find(|ready| ready.name == "sharpness").unwrap();
    Hook::parse(ready.source()).unwrap()
}

#[test]
fn the_generated_part_of_a_shader_is_what_the_hook_declares() {
    let hook = "
[hook]
name = \"all\"
api = 1
match = [\"*\"]
[input]
kind = \"image\"
[params]
count = { type = \"u32\", default = 1 }
shift = { type = \"i32\", default = -1 }
ratio = { type = \"f32\", default = 0.5 }
loud = { type = \"bool\", default = true }
zones = { type = \"rects\", default = [] }
[buffers]
hits = { type = \"atomic<u32>\", len = \"256\" }
sums = { type = \"vec4<f32>\", len = \"width\" }
[[pass]]
shader = \"all.wgsl\"
entry = \"main\"
dispatch = [\"1\", \"1\"]
[output.image]
suffix = \".png\"
format = \"png\"
[output.json]
fields = { found = \"bool\", mean = \"f32\" }
";
    let files = [("hook.toml", hook), ("all.wgsl", "")];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    let hook = Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap();
    let expected = "
// Generated from hook.toml.
struct File { offset: u32, len: u32, width: u32, height: u32, out_offset: u32, out_len: u32, out_width: u32, out_height: u32 }
struct Batch { files: u32, hits_len: u32, sums_len: u32 }
struct Params { count: u32, loud: u32, ratio: f32, shift: i32, zones_count: u32 }
struct Report { found: u32, mean: f32 }
@group(0) @binding(0) var<storage, read> files: array<File>;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<uniform> batch: Batch;
@group(0) @binding(3) var<storage, read_write> output: array<u32>;
@group(0) @binding(4) var<storage, read_write> report: array<Report>;
@group(0) @binding(5) var<uniform> params: Params;
@group(0) @binding(6) var<storage, read> zones: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> hits: array<atomic<u32>>;
@group(0) @binding(8) var<storage, read_write> sums: array<vec4<f32>>;
fn hits_at(file: u32) -> u32 { return file * batch.hits_len; }
fn sums_at(file: u32) -> u32 { return file * batch.sums_len; }
";
    assert_eq!(prelude::source(&hook), expected);
}

#[test]
fn sound_and_bytes_come_with_functions_that_read_them() {
    let prelude = |kind: &str| {
        let hook = format!(
            "[hook]\nname = \"t\"\napi = 1\nmatch = [\"*\"]\n[input]\nkind = \"{kind}\"\n[[pass]]\n\
             shader = \"t.wgsl\"\nentry = \"main\"\ndispatch = [\"1\", \"1\"]\n[output.json]\nfields = {{ n = \"u32\" }}\n"
        );
        let files = [("hook.toml", hook.as_str()), ("t.wgsl", "")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        prelude::source(&Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap())
    };
    let bindings = "struct Batch { files: u32 }
struct Report { n: u32 }
@group(0) @binding(0) var<storage, read> files: array<File>;
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<uniform> batch: Batch;
@group(0) @binding(3) var<storage, read_write> report: array<Report>;
";
    let audio = "
// Generated from hook.toml.
struct File { offset: u32, len: u32, frames: u32, channels: u32, sample_rate: u32, seconds: f32, out_offset: u32, out_rows: u32 }
";
    let sample = "fn sample(file: File, channel: u32, frame: u32) -> f32 { return bitcast<f32>(input[file.offset + channel * file.frames + frame]); }\n";
    assert_eq!(prelude("audio"), format!("{audio}{bindings}{sample}"));
    let bytes = "
// Generated from hook.toml.
struct File { offset: u32, length: u32, out_offset: u32, out_rows: u32 }
";
    let byte = "fn byte(file: File, index: u32) -> u32 { return (input[file.offset + index / 4u] >> (index % 4u * 8u)) & 0xffu; }\n";
    assert_eq!(prelude("bytes"), format!("{bytes}{bindings}{byte}"));
}

#[test]
fn a_tile_knows_where_it_lies() {
    let prelude = |kind: &str| {
        let hook = format!(
            "[hook]\nname = \"t\"\napi = 1\nmatch = [\"*\"]\n[input]\nkind = \"{kind}\"\ntiles = {{ size = 4096 }}\n\
             [[pass]]\nshader = \"t.wgsl\"\nentry = \"main\"\ndispatch = [\"1\", \"1\"]\n\
             [output.json.fields]\nn = {{ type = \"u32\", combine = \"sum\" }}\n"
        );
        let files = [("hook.toml", hook.as_str()), ("t.wgsl", "")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        prelude::source(&Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap())
    };
    let plane = "out_height: u32, origin_x: u32, origin_y: u32, whole_width: u32, whole_height: u32, \
                 inner_x: u32, inner_y: u32, inner_width: u32, inner_height: u32 }\n";
    assert!(prelude("image").contains(plane), "{}", prelude("image"));
    for kind in ["table", "audio", "bytes"] {
        let line = "out_rows: u32, origin: u32, whole: u32, inner: u32, inner_len: u32 }\n";
        assert!(prelude(kind).contains(line), "{}", prelude(kind));
    }
}

#[test]
fn ready_hooks_are_far_from_the_limits_of_shaders() {
    for ready in ready_hooks() {
        inspect_hook(&Hook::parse(ready.source()).unwrap()).unwrap();
    }
}

#[test]
fn a_lost_device_is_an_error_and_not_a_wrong_result() {
    let Some(gpu) = gpu() else { return };
    let hook = sharpness();
    let compiled = gpu.compile(&hook).unwrap();
    gpu.device.destroy();
    let error = gpu.run(&hook, &compiled, &[RgbaImage::new(64, 64)]).expect_err("lost");
    assert!(matches!(error, GpuError::Lost(_)), "{error:?}");
}

#[test]
fn files_of_a_batch_do_not_see_each_other() {
    let Some(gpu) = gpu() else { return };
    let hook = sharpness();
    let compiled = gpu.compile(&hook).unwrap();
    let shades = [0, 60, 120, 180, 240];
    let images = shades.map(|shade| {
        RgbaImage::from_pixel(40 + u32::from(shade), 33, image::Rgba([shade, shade, shade, 255]))
    });
    let outputs = gpu.run(&hook, &compiled, &images).unwrap();
    for (output, shade) in outputs.iter().zip(shades) {
        assert_eq!(output.fields["luma_p50"], shade, "{:?}", output.fields);
        assert_eq!(output.fields["laplacian_variance"], 0.0, "{:?}", output.fields);
    }
}
