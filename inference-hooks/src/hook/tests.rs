use std::collections::BTreeMap;
use std::fs;

use super::*;

const HOOK: &str = r#"[hook]
name = "invert"
api = 1
match = ["*.png"]

[input]
kind = "image"
max_bytes = "1MiB"

[params]
amount = { type = "f32", default = 0.5, min = 0, max = 1 }
zones = { type = "rects", default = [] }

[buffers]
scratch = { type = "u32", len = "width * height" }

[[pass]]
shader = "invert.wgsl"
entry = "main"
dispatch = ["ceil(width / 8)", "ceil(height / 8)"]
reads = ["input"]
writes = ["scratch", "output"]

[output.image]
suffix = ".inverted.png"
format = "png"

[limits]
gpu_ms = 100
memory = "64MiB"
retries = 3
"#;

fn source(hook: &str, params: Option<&str>) -> HookSource {
    let mut files = BTreeMap::from([
        ("hook.toml".to_owned(), hook.as_bytes().to_vec()),
        ("invert.wgsl".to_owned(), b"// later".to_vec()),
    ]);
    files.extend(params.map(|text| ("params.toml".to_owned(), text.as_bytes().to_vec())));
    HookSource::new(files)
}

fn parse(hook: &str, params: Option<&str>) -> Result<Hook, HookError> {
    Hook::parse(source(hook, params))
}

#[test]
fn a_hook_is_read_with_its_defaults() {
    let hook = parse(HOOK, None).unwrap();
    assert_eq!(
        (hook.name(), hook.globs(), hook.fallback()),
        ("invert", &["*.png".to_owned()][..], None)
    );
    assert_eq!(hook.input(), InputSpec { bytes_max: 1 << 20, pixels_max: 200_000_000 });
    let expected =
        Limits { run_max: Duration::from_millis(100), memory_bytes_max: 64 << 20, retries_max: 3 };
    assert_eq!(hook.limits(), expected);
    assert_eq!(hook.shaders().unwrap().compile_max, Duration::from_secs(5));
    assert_eq!(hook.params()["amount"], ParamValue::F32(0.5));
    assert_eq!(hook.output_size(Shape::Image { size: [7, 9] }), Ok([7, 9]));
}

#[test]
fn an_error_names_file_line_key_value_and_remedy() {
    for (from, to, message) in [
        ("api = 1", "api = 2", "hook.toml:3: hook.api = 2 is not known; this fsd speaks api = 1"),
        (
            "name = \"invert\"",
            "name = \"in vert\"",
            "hook.toml:2: hook.name = \"in vert\" is no hook name; use 1 to 64 letters, digits, `-` and `_`",
        ),
        (
            "kind = \"image\"",
            "kind = \"csv\"",
            "hook.toml:7: input.kind = \"csv\" is not supported; the kinds are \"image\", \"table\", \"audio\" and \"bytes\"",
        ),
        (
            "\"1MiB\"",
            "\"1MB\"",
            "hook.toml:8: input.max_bytes = \"1MB\" is no size that can be used; write \"64MiB\" or so, from 1 to 4294967296 bytes",
        ),
        (
            "[\"*.png\"]",
            "[]",
            "hook.toml:4: hook.match = [] matches no file; write at least one glob, such as \"*.jpg\"",
        ),
        (
            "default = 0.5",
            "default = 1.5",
            "hook.toml:11: params.amount.default = 1.5 is out of range; its value must be from 0 to 1",
        ),
        (
            "\"f32\"",
            "\"f64\"",
            "hook.toml:11: params.amount.type = \"f64\" is not a type; the types are u32, i32, f32, bool, rects",
        ),
        (
            "\"width * height\"",
            "\"width * depth\"",
            "hook.toml:15: buffers.scratch.len = \"width * depth\" names `depth`; known here are width, height, len, amount, zones_count, out_width, out_height, ceil(), floor(), max(), min(), round()",
        ),
        (
            "scratch = {",
            "files = {",
            "hook.toml:15: buffers.files = { type = \"u32\", len = \"width * height\" } has a name that no shader can use; \
             use a-z, 0-9 and single `_`, from a letter, and none of batch, files, height, input, len, out_height, out_width, output, params, report, width",
        ),
        (
            "scratch = {",
            "zones = {",
            "hook.toml:15: buffers.zones = { type = \"u32\", len = \"width * height\" } is a parameter, too; rename one of the two",
        ),
        (
            "shader = \"invert.wgsl\"",
            "shader = \"../secret\"",
            "hook.toml:18: pass[0].shader = \"../secret\" does not exist; name a .wgsl file of the hook folder",
        ),
        (
            "reads = [\"input\"]",
            "reads = [\"imput\"]",
            "hook.toml:21: pass[0].reads = \"imput\" is not declared; known here are scratch, output, input",
        ),
        (
            "format = \"png\"",
            "format = \"png\"\nquality = 80",
            "hook.toml:26: output.image.format = \"png\" has no quality; leave it out: PNG keeps every bit",
        ),
        (
            "suffix = \".inverted.png\"",
            "suffix = \"/etc/passwd\"",
            "hook.toml:25: output.image.suffix = \"/etc/passwd\" is no suffix; write \".thumb.png\" or so: a dot, then letters, digits, `.`, `-`, `_`",
        ),
        (
            "gpu_ms = 100",
            "gpu_ms = 0",
            "hook.toml:29: limits.gpu_ms = 0 is out of range; use 1 to 600000",
        ),
        (
            "retries = 3",
            "retires = 3",
            "hook.toml:31: unknown field `retires`, expected one of `gpu_ms`, `compile_ms`, `memory`, `retries`; the line is `retires = 3`",
        ),
        (
            "retries = 3",
            "retries = 3\n[fallback]\ncpu = \"builtin:blur\"",
            "hook.toml:33: fallback.cpu = \"builtin:blur\" does not exist; there are builtin:privacy-blur, builtin:sharpness, builtin:telemetry, builtin:thumbnail",
        ),
        (
            "retries = 3",
            "retries = 3\n[fallback]\ncpu = \"builtin:privacy-blur\"",
            "hook.toml:33: fallback.cpu = \"builtin:privacy-blur\" needs the parameter `masks`; declare masks = { type = \"rects\", .. } in [params]",
        ),
        (
            "retries = 3",
            "retries = 3\n[fallback]\ncpu = \"builtin:thumbnail\"\n[output.json]\nfields = { sum = \"u32\" }",
            "hook.toml:33: fallback.cpu = \"builtin:thumbnail\" gives no field `sum` of that type; its fields are width, height",
        ),
    ] {
        assert!(HOOK.contains(from), "{from}");
        let found = parse(&HOOK.replacen(from, to, 1), None).expect_err(to).to_string();
        assert_eq!(found, message);
    }
    let nothing = HOOK
        .replace("suffix = \".inverted.png\"\nformat = \"png\"", "")
        .replace("output.image", "output");
    let nothing = parse(&nothing, None).expect_err("no output").to_string();
    assert!(nothing.contains("gives nothing; add [output.image], or [output.json]"), "{nothing}");
    assert!(matches!(parse("", None), Err(HookError::Value(_))));
    assert!(matches!(Hook::parse(HookSource::new(BTreeMap::new())), Err(HookError::NoHookFile)));
}

#[test]
fn what_is_said_of_tables_is_checked() {
    let ready = crate::ready_hooks().iter().find(|ready| ready.name == "telemetry").unwrap();
    let telemetry = ready.source().files().clone();
    let text = String::from_utf8(telemetry["hook.toml"].clone()).unwrap();
    let sound = Hook::parse(ready.source()).unwrap();
    let spec = sound.table().unwrap();
    assert_eq!((spec.rows_max, spec.columns_max, spec.delimiter), (1_000_000, 256, None));
    // A day in minutes, and without times in windows of 60 rows.
    let rows = |seconds| sound.output_size(Shape::Table { rows: 1440, cols: 2, seconds });
    assert_eq!((rows(Some(86_340.0)), rows(None)), (Ok([13, 2880]), Ok([13, 48])));
    for (from, to, message) in [
        (
            "kind = \"table\"",
            "kind = \"table\"\nmax_pixels = 5",
            "hook.toml:10: input.max_pixels = 5 is for pictures only; leave it out, or write kind = \"image\"",
        ),
        (
            "kind = \"table\"",
            "kind = \"table\"\ndelimiter = \", \"",
            "hook.toml:10: input.delimiter = \", \" parts no cells; write one character, such as \";\" or \"\\t\"",
        ),
        (
            "kind = \"table\"",
            "kind = \"table\"\ncolumns = []",
            "hook.toml:10: input.columns = [] names no column; name columns, or leave it out for all that hold numbers",
        ),
        (
            "format = \"csv\"",
            "format = \"xls\"",
            "output.table.format = \"xls\" cannot be written; the formats are \"csv\" and \"jsonl\"",
        ),
        (
            "name = \"count\", type = \"u32\"",
            "name = \"count\", type = \"f64\"",
            "output.table.columns.count = \"f64\" is not a type of what is made of tables; the types are u32, i32, f32, bool, column, time, position",
        ),
        (
            "name = \"count\"",
            "name = \"start\"",
            "output.table.columns.start = \"start\" is there twice; rename one of the two",
        ),
        (
            "name = \"count\"",
            "name = \"number\"",
            "fallback.cpu = \"builtin:telemetry\" gives other columns in its table; declare start, column, count,",
        ),
        (
            "builtin:telemetry",
            "builtin:thumbnail",
            "fallback.cpu = \"builtin:thumbnail\" is for another kind of input; take one for the same input.kind",
        ),
        (
            "[params]",
            "[params]\nrows = { type = \"u32\", default = 1 }",
            "params.rows = { type = \"u32\", default = 1 } has the name of a size of the input; rename it",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let mut files = telemetry.clone();
        files.insert("hook.toml".to_owned(), text.replacen(from, to, 1).into_bytes());
        let found = Hook::parse(HookSource::new(files)).expect_err(to).to_string();
        assert!(found.contains(message), "{found}");
    }
    let keys = HOOK.replace("kind = \"image\"", "kind = \"image\"\ntime = \"time\"");
    let found = parse(&keys, None).expect_err("a time of a picture").to_string();
    assert!(
        found.contains("is for tables only; leave it out, or write kind = \"table\""),
        "{found}"
    );
}

/// A hook for `kind` that gives a table, with some lines changed.
fn of_kind(kind: &str, changes: &[(&str, &str)]) -> Result<Hook, HookError> {
    let mut text = format!(
        "[hook]\nname = \"t\"\napi = 1\nmatch = [\"*\"]\n[input]\nkind = \"{kind}\"\n[[pass]]\n\
         shader = \"invert.wgsl\"\nentry = \"main\"\ndispatch = [\"out_rows\", \"1\"]\n\
         [output.table]\nsuffix = \".t\"\nformat = \"csv\"\nrows = \"2\"\ncolumns = [{{ name = \"a\", type = \"u32\" }}]\n"
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    parse(&text, None)
}

#[test]
fn what_is_said_of_sound_and_bytes_is_checked() {
    let audio =
        of_kind("audio", &[("kind", "channels = \"mono\"\nmax_seconds = 7\nkind")]).unwrap();
    let spec = AudioSpec { channels: Channels::Mono, seconds_max: 7 };
    assert_eq!((audio.kind(), audio.table()), (&Kind::Audio(spec), None));
    let plain = of_kind("audio", &[]).unwrap();
    assert_eq!(
        plain.kind(),
        &Kind::Audio(AudioSpec { channels: Channels::All, seconds_max: 3600 })
    );
    let rows = ("rows = \"2\"", "rows = \"channels * ceil(frames / sample_rate) + seconds + len\"");
    let shape = Shape::Audio { frames: 16, channels: 2, sample_rate: 8, seconds: 2.0 };
    assert_eq!(of_kind("audio", &[rows]).unwrap().output_size(shape), Ok([1, 38]));
    let bytes = of_kind("bytes", &[("rows = \"2\"", "rows = \"ceil(length / 10)\"")]).unwrap();
    assert_eq!(bytes.output_size(Shape::Bytes { length: 95 }), Ok([1, 10]));
    let fallback = "[output.table]";
    for (kind, from, to, message) in [
        (
            "audio",
            "kind",
            "channels = \"left\"\nkind",
            "hook.toml:6: input.channels = \"left\" is no choice of channels; write \"all\", or \"mono\" for the mean of all",
        ),
        (
            "audio",
            "kind",
            "max_seconds = 0\nkind",
            "hook.toml:6: input.max_seconds = 0 is out of range; use 1 to 1000000",
        ),
        (
            "audio",
            "kind",
            "max_rows = 9\nkind",
            "hook.toml:6: input.max_rows = 9 is for tables only; leave it out, or write kind = \"table\"",
        ),
        (
            "bytes",
            "kind",
            "max_seconds = 9\nkind",
            "hook.toml:6: input.max_seconds = 9 is for sound only; leave it out, or write kind = \"audio\"",
        ),
        (
            "table",
            "kind",
            "channels = \"all\"\nkind",
            "hook.toml:6: input.channels = \"all\" is for sound only; leave it out, or write kind = \"audio\"",
        ),
        (
            "audio",
            "\"u32\"",
            "\"column\"",
            "hook.toml:15: output.table.columns.a = \"column\" is not a type of what is made of sound; the types are u32, i32, f32, bool, time, position",
        ),
        (
            "bytes",
            "\"u32\"",
            "\"time\"",
            "hook.toml:15: output.table.columns.a = \"time\" is not a type of what is made of bytes; the types are u32, i32, f32, bool, position",
        ),
        (
            "bytes",
            fallback,
            "[output.image]\nsuffix = \".p\"\nformat = \"png\"\n[output.table]",
            "hook.toml:12: output.image = \".p\" is not made of bytes; write [output.table] or [output.json]",
        ),
        (
            "image",
            fallback,
            fallback,
            "hook.toml:12: output.table = \".t\" is not made of pictures; write another kind in [input], or leave it out",
        ),
        (
            "audio",
            fallback,
            "[fallback]\ncpu = \"builtin:telemetry\"\n[output.table]",
            "hook.toml:12: fallback.cpu = \"builtin:telemetry\" is for another kind of input; take one for the same input.kind",
        ),
        (
            "bytes",
            "[[pass]]",
            "[buffers]\nbyte = { type = \"u32\", len = \"1\" }\n[[pass]]",
            "hook.toml:8: buffers.byte = { type = \"u32\", len = \"1\" } has the name of a function of the shader; rename it",
        ),
        (
            "audio",
            "[[pass]]",
            "[params]\nframes = { type = \"u32\", default = 1 }\n[[pass]]",
            "hook.toml:8: params.frames = { type = \"u32\", default = 1 } has the name of a size of the input; rename it",
        ),
        (
            "bytes",
            "out_rows",
            "width",
            "hook.toml:10: pass[0].dispatch[0] = \"width\" names `width`; known here are length, out_rows, ceil(), floor(), max(), min(), round()",
        ),
    ] {
        let found = of_kind(kind, &[(from, to)]).expect_err(to).to_string();
        assert_eq!(found, message);
    }
}

const TILED: &str = r#"[hook]
name = "t"
api = 1
match = ["*"]
[input]
kind = "image"
[input.tiles]
size = 512
overlap = 3
[[pass]]
shader = "invert.wgsl"
entry = "main"
dispatch = ["1", "1"]
[output.image]
suffix = ".t.png"
format = "png"
height = "height"
[output.json.fields]
dark = { type = "bool", combine = "all" }
sum = { type = "u32", combine = "sum" }
"#;

#[test]
fn what_is_said_of_tiles_is_checked() {
    let hook = parse(TILED, None).unwrap();
    let tiles = Tiles { size: 512, overlap: 3, combine: vec![Combine::All, Combine::Sum] };
    assert_eq!(hook.tiles(), Some(&tiles));
    assert_eq!(
        hook.output().fields,
        [("dark".to_owned(), FieldType::Bool), ("sum".to_owned(), FieldType::U32)]
    );
    for (from, to, message) in [
        (
            "size = 512",
            "size = 4",
            "hook.toml:8: input.tiles.size = 4 is out of range; use 16 to 16384 pixels of a side",
        ),
        (
            "size = 512",
            "size = \"1MiB\"",
            "hook.toml:8: input.tiles.size = \"1MiB\" is out of range; use 16 to 16384 pixels of a side",
        ),
        (
            "overlap = 3",
            "overlap = 513",
            "hook.toml:9: input.tiles.overlap = 513 is out of range; use 0 to 512 pixels of a side",
        ),
        (
            "overlap = 3",
            "overlay = 3",
            "hook.toml:9: unknown field `overlay`, expected `size` or `overlap`; the line is `overlay = 3`",
        ),
        ("size = 512", "", "hook.toml:7: missing field `size`; the line is `[input.tiles]`"),
        (
            "height = \"height\"",
            "height = \"height / 2\"",
            "hook.toml:17: output.image.height = \"height / 2\" is not the size of a tile; leave it out: what is made of tiles is as large as the whole",
        ),
        (
            "{ type = \"u32\", combine = \"sum\" }",
            "\"u32\"",
            "hook.toml:20: output.json.fields.sum = \"u32\" does not say how the values of all tiles become one; write { type = \"u32\", combine = .. } with \"sum\" or \"min\" or \"max\"",
        ),
        (
            "{ type = \"bool\", combine = \"all\" }",
            "{ type = \"bool\" }",
            "hook.toml:19: output.json.fields.dark = { type = \"bool\" } does not say how the values of all tiles become one; write { type = \"bool\", combine = .. } with \"any\" or \"all\"",
        ),
        (
            "combine = \"sum\"",
            "combine = \"any\"",
            "hook.toml:20: output.json.fields.sum.combine = \"any\" makes no u32 of several; use \"sum\" or \"min\" or \"max\"",
        ),
        (
            "combine = \"all\"",
            "combine = \"mean\"",
            "hook.toml:19: output.json.fields.dark.combine = \"mean\" makes no bool of several; use \"any\" or \"all\"",
        ),
        (
            "{ type = \"u32\", combine = \"sum\" }",
            "{ kind = \"u32\" }",
            "hook.toml:20: unknown field `kind`, expected `type` or `combine`; the line is `sum = { kind = \"u32\" }`",
        ),
        (
            "{ type = \"u32\", combine = \"sum\" }",
            "7",
            "hook.toml:20: invalid type: integer `7`, expected a type, or { type = .., combine = .. }; the line is `sum = 7`",
        ),
        (
            "{ type = \"u32\", combine = \"sum\" }",
            "{ type = \"u64\", combine = \"sum\" }",
            "hook.toml:20: output.json.fields.sum = { type = \"u64\", combine = \"sum\" } is not a type; the types are u32, i32, f32 and bool",
        ),
        (
            "[input.tiles]\nsize = 512\noverlap = 3\n",
            "",
            "hook.toml:16: output.json.fields.dark.combine = \"all\" is for hooks with tiles only; leave it out, or write [input.tiles]",
        ),
        (
            "[output.image]",
            "[fallback]\ncpu = \"builtin:thumbnail\"\n[output.image]",
            "hook.toml:15: fallback.cpu = \"builtin:thumbnail\" looks at whole files; leave it or [input.tiles] out",
        ),
    ] {
        assert!(TILED.contains(from), "{from}");
        let found = parse(&TILED.replacen(from, to, 1), None).expect_err(to).to_string();
        assert_eq!(found, message);
    }
    for (kind, size, expected) in [
        ("bytes", "\"1MiB\"", Ok(1 << 20)),
        ("bytes", "1024", Ok(1024)),
        ("bytes", "\"2GiB\"", Err("use 1024 to 1073741824 bytes")),
        ("bytes", "16", Err("use 1024 to 1073741824 bytes")),
        ("audio", "256", Ok(256)),
        ("audio", "\"1MiB\"", Err("use 256 to 268435456 frames")),
        ("table", "16", Ok(16)),
        ("table", "15", Err("use 16 to 268435456 rows")),
    ] {
        let tiles = format!("tiles = {{ size = {size} }}\nkind");
        let found = of_kind(kind, &[("kind", &tiles)]);
        match (found, expected) {
            (Ok(hook), Ok(expected)) => assert_eq!(hook.tiles().unwrap().size, expected),
            (Err(error), Err(remedy)) => {
                let text = error.to_string();
                assert!(text.starts_with("hook.toml:6: input.tiles.size"), "{text}");
                let remedies = [
                    remedy.to_owned(),
                    "write \"64MiB\" or so, from 1024 to 1073741824 bytes".to_owned(),
                ];
                assert!(remedies.iter().any(|remedy| text.ends_with(remedy)), "{text}");
            }
            (found, expected) => panic!("{kind} {size}: {found:?} {expected:?}"),
        }
    }
    let program = "[hook]\nname = \"p\"\napi = 1\nmatch = [\"*\"]\n[command]\nprogram = \"/usr/bin/true\"\n\
                   [output.json]\nfields = { n = { type = \"u32\", combine = \"sum\" } }\n";
    let found = parse(program, None).expect_err("a program").to_string();
    assert!(
        found.contains("output.json.fields.n.combine = \"sum\" is for hooks with tiles only"),
        "{found}"
    );
}

#[test]
fn params_toml_sets_parameters_within_their_bounds() {
    let set = "amount = 1\nzones = [{ x = 0.7, y = 0, width = 0.3, height = 1 }]";
    let hook = parse(HOOK, Some(set)).unwrap();
    assert_eq!(hook.shaders().unwrap().compile_max, Duration::from_secs(5));
    assert_eq!(hook.params()["amount"], ParamValue::F32(1.0));
    assert_eq!(hook.params()["zones"].number(), 1.0);

    let remedy = "; write a list of { x = 0.1, y = 0.2, width = 0.3, height = 0.4 }, in fractions of the picture";
    for (set, message) in [
        ("amount = 7", "params.toml:1: amount = 7 is out of range; its value must be from 0 to 1".to_owned()),
        ("amount = nan", "params.toml:1: amount = nan is not of type f32".to_owned()),
        ("\namuont = 1", "params.toml:2: amuont = 1 is not a parameter; [params] of hook.toml declares: amount, zones".to_owned()),
        ("zones = 3", format!("params.toml:1: zones = 3 is not a list{remedy}")),
        (
            "zones = [{ x = 0.8, y = 0, width = 0.3, height = 1 }]",
            format!(
                "params.toml:1: zones = [{{ x = 0.8, y = 0, width = 0.3, height = 1 }}] \
                 has no rectangle within the picture at position 1{remedy}"
            ),
        ),
        ("zones = [{ x = 0.1 }]", format!("params.toml:1: zones = [{{ x = 0.1 }}] has no rectangle within the picture at position 1{remedy}")),
        ("amount = ", "params.toml:1: string values must be quoted, expected literal string; the line is `amount =`".to_owned()),
    ] {
        assert_eq!(parse(HOOK, Some(set)).expect_err(set).to_string(), message);
    }
}

#[test]
fn any_change_of_any_file_is_another_version() {
    let version = |hook: &str, params| source(hook, params).version();
    let plain = version(HOOK, None);
    assert_eq!(plain, version(HOOK, None));
    assert_eq!(plain.as_str().len(), 64);
    assert_ne!(plain, version(&format!("{HOOK}\n"), None));
    assert_ne!(plain, version(HOOK, Some("")));
    // Bytes that move from one file to the next do not cancel out.
    let two = |one: &[u8], other: &[u8]| {
        let files = [("a".to_owned(), one.to_vec()), ("b".to_owned(), other.to_vec())];
        HookSource::new(BTreeMap::from(files)).version()
    };
    assert_ne!(two(b"xy", b"z"), two(b"x", b"yz"));
}

#[test]
fn a_folder_is_read_flat_and_without_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hook.toml"), HOOK).unwrap();
    fs::write(folder.path().join("invert.wgsl"), "").unwrap();
    fs::write(folder.path().join(".hook.toml.swp"), "x").unwrap();
    let source = HookSource::read(folder.path()).unwrap();
    assert_eq!(source.files().keys().collect::<Vec<_>>(), ["hook.toml", "invert.wgsl"]);
    assert_eq!(Hook::parse(source).unwrap().name(), "invert");

    fs::create_dir(folder.path().join("old")).unwrap();
    let nested = HookSource::read(folder.path()).expect_err("nested").to_string();
    assert!(
        nested.ends_with("old` is not a plain file; a hook folder is flat and holds files only"),
        "{nested}"
    );
    fs::remove_dir(folder.path().join("old")).unwrap();
    fs::write(folder.path().join("model.bin"), vec![0; (1 << 20) + 1]).unwrap();
    assert!(matches!(HookSource::read(folder.path()), Err(HookError::FileTooLarge { .. })));
    assert!(matches!(HookSource::read(&folder.path().join("none")), Err(HookError::Read { .. })));
}

#[test]
fn the_example_of_the_manual_is_a_hook() {
    let manual = include_str!("../../hooks/README.md");
    let blocks: Vec<_> = manual.split("```").skip(1).step_by(2).collect();
    let [hook, _, shader, ..] = blocks[..] else { panic!("{} blocks of code", blocks.len()) };
    let text = |block: &str, language: &str| block.strip_prefix(language).unwrap().to_owned();
    // What is commented out is valid, too.
    let hook =
        text(hook, "toml").replace("\n#", "\n").replace("[fallback]", "").replace("cpu = ", "# ");
    let hook = hook.replace("\"png\"  ", "\"jpeg\"  ");
    let files = [("hook.toml", hook), ("warm.wgsl", text(shader, "wgsl"))];
    let files = files.map(|(name, text)| (name.to_owned(), text.into_bytes()));
    let hook = Hook::parse(HookSource::new(BTreeMap::from(files))).unwrap();
    let plain = parse(HOOK.split("[limits]").next().unwrap(), None).unwrap();
    assert_eq!(hook.limits(), plain.limits(), "the manual shows the defaults");
    let compile_max = |hook: &Hook| hook.shaders().unwrap().compile_max;
    assert_eq!(compile_max(&hook), compile_max(&plain), "the manual shows the defaults");
    #[cfg(feature = "gpu")]
    crate::gpu::inspect_hook(&hook).unwrap();
}
