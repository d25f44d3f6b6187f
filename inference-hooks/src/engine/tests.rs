use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::FileExt as _;

use image::{DynamicImage, Rgb, RgbImage};
use serde_json::json;

use super::*;
use crate::audio::tests::{flac, wav};
use crate::gpu::tests::gpu;
use crate::hook::HookSource;

const MEMORY: u64 = 1 << 30;

fn hook(text: &str, shader: &str) -> Hook {
    let text = format!(
        "[hook]\nname = \"t\"\napi = 1\nmatch = [\"*\"]\n{text}\n[limits]\ngpu_ms = 60_000\n"
    );
    let files = [("hook.toml", text.as_str()), ("t.wgsl", shader)];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap()
}

/// An engine whose adapter binds no more than so much.
fn engine(binding_bytes: Option<u64>) -> Option<Engines> {
    let gpu = gpu()?;
    let gpu = match binding_bytes {
        Some(bytes) => gpu.binding_at_most(bytes),
        None => gpu,
    };
    Some(Engines { gpu: Ok(gpu) })
}

fn run(engines: &Engines, hook: &Hook, content: &[u8], memory: u64) -> Result<Output, Failure> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    run_on(engines, hook, file, memory)
}

fn run_on(engines: &Engines, hook: &Hook, file: File, memory: u64) -> Result<Output, Failure> {
    let loaded = engines.load(hook.clone())?;
    let mut all = Vec::new();
    let told = engines.run(&loaded, &[file], memory, |said| {
        all.push(said);
        Ok::<_, Failure>(())
    });
    told.and(all.pop().unwrap())
}

fn picture() -> RgbImage {
    RgbImage::from_fn(517, 333, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).rotate_left(13);
        let [a, b, c, _] = noise.wrapping_mul(3_266_489_917).to_le_bytes();
        Rgb([a, b, c])
    })
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image.clone()).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A weighted mean of seven pixels across, then down; beyond an edge is the pixel at the edge.
const BLUR: &str = "
fn weight(step: i32) -> f32 { return exp(-0.3 * f32(step * step)); }

@compute @workgroup_size(8, 8)
fn across(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.width || id.y >= file.height { return; }
    var sum = vec4(0.0);
    var weights = 0.0;
    for (var step = -3; step <= 3; step++) {
        let x = u32(clamp(i32(id.x) + step, 0, i32(file.width) - 1));
        sum += weight(step) * unpack4x8unorm(input[file.offset + id.y * file.width + x]);
        weights += weight(step);
    }
    rows[rows_at(id.z) + id.y * file.width + id.x] = sum / weights;
}

@compute @workgroup_size(8, 8)
fn down(@builtin(global_invocation_id) id: vec3<u32>) {
    let file = files[id.z];
    if id.x >= file.width || id.y >= file.height { return; }
    var sum = vec4(0.0);
    var weights = 0.0;
    for (var step = -3; step <= 3; step++) {
        let y = u32(clamp(i32(id.y) + step, 0, i32(file.height) - 1));
        sum += weight(step) * rows[rows_at(id.z) + y * file.width + id.x];
        weights += weight(step);
    }
    output[file.out_offset + id.y * file.width + id.x] = pack4x8unorm(sum / weights);
}";

fn blur(tiles: &str) -> Hook {
    let pass = |entry: &str, reads: &str, writes: &str| {
        format!(
            "[[pass]]\nshader = \"t.wgsl\"\nentry = \"{entry}\"\ndispatch = [\"ceil(width / 8)\", \"ceil(height / 8)\"]\n\
             reads = [\"{reads}\"]\nwrites = [\"{writes}\"]\n"
        )
    };
    let text = format!(
        "[input]\nkind = \"image\"\n{tiles}\n[buffers]\nrows = {{ type = \"vec4<f32>\", len = \"width * height\" }}\n{}{}\
         [output.image]\nsuffix = \".t.png\"\nformat = \"png\"\n",
        pass("across", "input", "rows"),
        pass("down", "rows", "output")
    );
    hook(&text, BLUR)
}

#[test]
fn a_picture_beyond_the_adapter_is_in_tiles_what_it_is_as_a_whole() {
    let Some(large) = engine(None) else { return };
    let content = png(&picture());
    let (_, whole) = run(&large, &blur(""), &content, MEMORY).unwrap();
    // 517 x 333 pixels are 688,644 bytes, and four times that in the buffer.
    let small = engine(Some(64 << 10)).unwrap();
    let error = run(&small, &blur(""), &content, MEMORY).expect_err("too large");
    assert!(
        error.detail.starts_with("`input` needs 688656 bytes; this adapter binds"),
        "{error:?}"
    );
    for (engines, tiles) in [
        (&small, "tiles = { size = 40, overlap = 3 }"),
        (&small, "tiles = { size = 16, overlap = 16 }"),
        (&large, "tiles = { size = 100, overlap = 5 }"),
        (&large, "tiles = { size = 16384, overlap = 3 }"),
    ] {
        let (done, tiled) = run(engines, &blur(tiles), &content, MEMORY).unwrap();
        assert_eq!((done.engine, done.width, done.height), (Engine::Gpu, 517, 333));
        let [whole, tiled] =
            [&whole, &tiled].map(|files| image::load_from_memory(&files[0]).unwrap());
        assert!(whole == tiled, "{tiles}");
    }
    // Without what overlaps, the edges of tiles can be seen.
    let (_, cut) = run(&small, &blur("tiles = { size = 40 }"), &content, MEMORY).unwrap();
    assert!(cut != whole);
    let error = run(&small, &blur("tiles = { size = 200 }"), &content, MEMORY).expect_err("large");
    assert_eq!(error.kind, FailureKind::OverLimit);
    assert!(error.detail.ends_with("use a smaller input.tiles.size"), "{error:?}");
}

#[test]
fn the_memory_bounds_how_many_tiles_are_together() {
    let Some(engines) = engine(None) else { return };
    let content = png(&picture());
    let hook = blur("tiles = { size = 64, overlap = 3 }");
    let (_, whole) = run(&engines, &hook, &content, MEMORY).unwrap();
    // Decoded and stitched it takes 1,377,288 bytes, and a tile of 70 x 70 about 180,000.
    let (_, tight) = run(&engines, &hook, &content, 2_200_000 * 8 / 7).unwrap();
    assert!(whole == tight);
    let error = run(&engines, &hook, &content, 1_500_000 * 8 / 7).expect_err("too little");
    assert_eq!(error.kind, FailureKind::OverLimit, "{error:?}");
}

#[test]
fn fields_of_tiles_become_one() {
    let Some(engines) = engine(Some(64 << 10)) else { return };
    let shader = "
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
    let file = files[id.z];
    var sum = 0u;
    var low = 255u;
    var high = 0u;
    for (var y = file.inner_y; y < file.inner_y + file.inner_height; y++) {
        for (var x = file.inner_x; x < file.inner_x + file.inner_width; x++) {
            let red = input[file.offset + y * file.width + x] & 255u;
            sum += red;
            low = min(low, red);
            high = max(high, red);
        }
    }
    report[id.z].sum = sum;
    report[id.z].low = low;
    report[id.z].high = f32(high);
    report[id.z].at_origin = u32(file.origin_x == 0u && file.origin_y == 0u);
    report[id.z].of_one = u32(file.whole_width == 517u && file.whole_height == 333u);
    report[id.z].right = i32(file.origin_x + file.inner_x + file.inner_width);
}";
    let text = "[input]\nkind = \"image\"\ntiles = { size = 50, overlap = 2 }\n[[pass]]\nshader = \"t.wgsl\"\nentry = \"main\"\n\
                dispatch = [\"1\", \"1\"]\nreads = [\"input\"]\nwrites = [\"report\"]\n[output.json.fields]\n\
                sum = { type = \"u32\", combine = \"sum\" }\nlow = { type = \"u32\", combine = \"min\" }\n\
                high = { type = \"f32\", combine = \"max\" }\nat_origin = { type = \"bool\", combine = \"any\" }\n\
                of_one = { type = \"bool\", combine = \"all\" }\nright = { type = \"i32\", combine = \"max\" }\n";
    let image = picture();
    let (done, files) = run(&engines, &hook(text, shader), &png(&image), MEMORY).unwrap();
    assert!(files.is_empty());
    let reds: Vec<u32> = image.pixels().map(|pixel| pixel.0[0].into()).collect();
    let expected = json!({
        "sum": reds.iter().sum::<u32>(), "low": reds.iter().min(), "high": f64::from(*reds.iter().max().unwrap()),
        "at_origin": true, "of_one": true, "right": 517,
    });
    assert_eq!(Value::Object(done.fields), expected);
}

/// Where the samples of a sound, or the values of a column, are highest in each tile.
fn peaks(kind: &str, tiles: &str, time: &str, value: &str) -> Hook {
    let shader = format!(
        "@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {{
    let file = files[id.z];
    var best = -2.0;
    var at = 0u;
    for (var frame = file.inner; frame < file.inner + file.inner_len; frame++) {{
        let value = {value};
        if value > best {{ best = value; at = frame; }}
    }}
    output[file.out_offset].time = at;
    output[file.out_offset].at = at;
    output[file.out_offset].value = best;
    output[file.out_offset + 1u].at = file.whole;        // is not there
    report[id.z].peak = best;
    report[id.z].count = file.inner_len;
}}"
    );
    let text = format!(
        "[input]\nkind = \"{kind}\"\n{tiles}\n{time}\n[[pass]]\nshader = \"t.wgsl\"\nentry = \"main\"\n\
         dispatch = [\"1\", \"1\"]\nreads = [\"input\"]\nwrites = [\"output\", \"report\"]\n[output.json.fields]\n\
         peak = {{ type = \"f32\", combine = \"max\" }}\ncount = {{ type = \"u32\", combine = \"sum\" }}\n\
         [output.table]\nsuffix = \".t\"\nformat = \"csv\"\nrows = \"2\"\ncolumns = [\n\
         {{ name = \"time\", type = \"time\" }}, {{ name = \"at\", type = \"position\" }}, {{ name = \"value\", type = \"f32\" }}]\n"
    );
    hook(&text, &shader)
}

/// Whole numbers that are all unlike, and the same each time.
fn values(count: u32) -> Vec<i16> {
    let mixed = |at: u32| (at.wrapping_mul(7_919) % 65_536).cast_signed() - 32_768;
    (0..count).map(|at| i16::try_from(mixed(at)).unwrap()).collect()
}

/// What `peaks` says of each tile of so many values.
fn expected(values: &[i16], size: usize, time: impl Fn(usize) -> String, scale: f32) -> String {
    let mut text = "time,at,value\n".to_owned();
    for (tile, part) in values.chunks(size).enumerate() {
        let (at, value) = part.iter().enumerate().rev().max_by_key(|(_, value)| **value).unwrap();
        let at = tile * size + at;
        text.push_str(&format!("{},{at},{}\n", time(at), f32::from(*value) / scale));
    }
    text
}

#[test]
fn a_sound_in_tiles_gives_the_rows_of_all_tiles() {
    let Some(engines) = engine(Some(16 << 10)) else { return };
    let values = values(10_000);
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let wav = (wav(1, 16, 1, 8_000, &data), 8_000.0);
    let flac = (flac(1, &values, 1_000, 10_000), 48_000.0);
    for ((sound, rate), (tiles, size)) in [
        (&wav, ("size = 300, overlap = 7", 300)),
        (&wav, ("size = 2048", 2_048)),
        (&flac, ("size = 300, overlap = 7", 300)),
    ] {
        let time = |at: usize| format!("{}", (at as f64 / rate * 1e6).round() / 1e6);
        let tiles = format!("tiles = {{ {tiles} }}");
        let hook = peaks("audio", &tiles, "", "sample(file, 0u, frame)");
        let (done, files) = run(&engines, &hook, sound, MEMORY).unwrap();
        assert_eq!((done.width, done.height, &done.fields["count"]), (1, 10_000, &json!(10_000)));
        let text = expected(&values, size, time, 32_768.0);
        assert_eq!(String::from_utf8(files[0].clone()).unwrap(), text);
        assert!(done.fields["peak"].as_f64().unwrap() > 0.99);
    }
}

#[test]
fn a_sound_that_does_not_fit_in_memory_is_read_piece_by_piece() {
    let Some(engines) = engine(None) else { return };
    let (frames, loud, memory) = (20_000_000_u32, 19_000_001_u32, 6_000_000 * 8 / 7);
    let mut head = wav(1, 16, 1, 8_000, &[]);
    let at = head.len() - 4;
    head[at..].copy_from_slice(&(frames * 2).to_le_bytes());
    let sound = || {
        let file = tempfile::tempfile().unwrap();
        file.set_len(head.len() as u64 + u64::from(frames) * 2).unwrap();
        file.write_all_at(&head, 0).unwrap();
        let at = head.len() as u64 + u64::from(loud) * 2;
        file.write_all_at(&16_384_i16.to_le_bytes(), at).unwrap();
        file
    };
    let hook = |tiles: &str| peaks("audio", tiles, "", "sample(file, 0u, frame)");
    let hook = hook("tiles = { size = 20000 }");
    let (done, files) = run_on(&engines, &hook, sound(), memory).unwrap();
    let fields = json!({ "count": frames, "peak": 0.5 });
    assert_eq!(Value::Object(done.fields), fields);
    let text = String::from_utf8(files[0].clone()).unwrap();
    let line = format!("{},{loud},0.5", f64::from(loud) / 8_000.0);
    assert_eq!(text.lines().filter(|line| line.ends_with(",0.5")).collect::<Vec<_>>(), [line]);
    assert_eq!(text.lines().count(), 1_001);
}

#[test]
fn a_table_in_tiles_names_its_own_rows() {
    let Some(engines) = engine(Some(16 << 10)) else { return };
    let values = values(1_000);
    let time = |at: usize| format!("2024-05-01T00:{:02}:{:02}Z", at / 60, at % 60);
    let mut csv = "time,value\n".to_owned();
    for (at, value) in values.iter().enumerate() {
        csv.push_str(&format!("{},{}\n", time(at), f32::from(*value) / 32_768.0));
    }
    let value = "bitcast<f32>(input[file.offset + frame])";
    let hook = peaks("table", "tiles = { size = 90, overlap = 20 }", "time = \"time\"", value);
    let (done, files) = run(&engines, &hook, csv.as_bytes(), MEMORY).unwrap();
    assert_eq!((done.width, done.height, &done.fields["count"]), (1, 1_000, &json!(1_000)));
    let text = expected(&values, 90, time, 32_768.0);
    assert_eq!(String::from_utf8(files[0].clone()).unwrap(), text);
}

#[test]
fn a_file_of_too_many_tiles_or_rows_is_refused() {
    let Some(engines) = engine(None) else { return };
    let hook = |rows: &str| {
        let text = format!(
            "[input]\nkind = \"bytes\"\nmax_bytes = \"4GiB\"\ntiles = {{ size = 1024 }}\n[[pass]]\nshader = \"t.wgsl\"\n\
             entry = \"main\"\ndispatch = [\"1\", \"1\"]\nwrites = [\"output\"]\n[output.table]\nsuffix = \".t\"\n\
             format = \"csv\"\nrows = \"{rows}\"\ncolumns = [{{ name = \"n\", type = \"u32\" }}]\n"
        );
        hook(&text, "@compute @workgroup_size(1) fn main() { output[0].n = 1u; }")
    };
    let sparse = |length: u64| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    };
    for (rows, length, message) in [
        (
            "1",
            (1 << 30) + 1,
            "the file makes 1048577 tiles; 1048576 are the most: use a larger input.tiles.size",
        ),
        ("1", 1 << 32, "the file has 4294967296 bytes; shaders count up to 2^32 - 1"),
        (
            "length",
            (1 << 20) + 1,
            "output.table.rows gives 1048577 rows for this file; at most 1048576 are written: use larger windows",
        ),
    ] {
        let failure = run_on(&engines, &hook(rows), sparse(length), MEMORY).expect_err(message);
        assert_eq!((failure.kind, failure.detail.as_str()), (FailureKind::OverLimit, message));
    }
}
