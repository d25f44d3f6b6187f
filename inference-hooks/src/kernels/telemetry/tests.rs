use proptest::prelude::*;
#[cfg(feature = "gpu")]
use proptest::strategy::ValueTree as _;

#[cfg(feature = "gpu")]
use super::super::apart::tables_apart;
use super::super::{CpuOutput, Run, TableInput};
use crate::hook::Hook;
use crate::ready::ready_hooks;
use crate::table::{Table, write};

fn hook(params: &str) -> Hook {
    let ready = ready_hooks().iter().find(|ready| ready.name == "telemetry").unwrap();
    let mut files = ready.source().files().clone();
    let text = String::from_utf8(files["hook.toml"].clone()).unwrap();
    let text = text.replace("gpu_ms = 5000", "gpu_ms = 300_000\ncompile_ms = 300_000");
    files.insert("hook.toml".to_owned(), text.into_bytes());
    files.insert("params.toml".to_owned(), params.as_bytes().to_vec());
    Hook::parse(crate::hook::HookSource::new(files)).unwrap()
}

fn table(hook: &Hook, text: &str) -> Table {
    Table::decode(text.as_bytes(), hook.table().unwrap(), 1 << 30).unwrap()
}

fn on_cpu(hook: &Hook, table: &Table) -> CpuOutput {
    let Some(Run::Table(run)) = hook.cpu_twin().map(|twin| twin.run) else { panic!("no twin") };
    let [_, out_rows] = hook.output_size(table.shape()).unwrap();
    run(&TableInput { table, params: hook.params(), out_rows })
}

/// The rows of the summary, each with its cells by name.
fn summary(hook: &Hook, table: &Table, output: &CpuOutput) -> Vec<Vec<(String, String)>> {
    let bytes = write(hook.output().table.as_ref().unwrap(), &output.rows, table).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let names = reader.headers().unwrap().clone();
    let named = |row: csv::StringRecord| {
        names.iter().zip(&row).map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect()
    };
    reader.records().map(|row| named(row.unwrap())).collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).unwrap().1
}

/// The same noise each time, from -1 to 1.
#[cfg(feature = "gpu")]
fn noise(seed: u32) -> f64 {
    let mixed = (seed.wrapping_mul(2_654_435_761) ^ 0x9E37_79B9).rotate_left(13);
    f64::from(mixed.wrapping_mul(2_246_822_519) >> 8) / f64::from(1_u32 << 23) - 1.0
}

#[test]
fn a_spike_is_found_though_it_widens_its_own_window() {
    let hook = hook("window_rows = 10");
    // Among ten values nothing is farther than 2.85 standard deviations from the mean.
    let spike =
        table(&hook, "a,b\n1,5\n1.1,5\n0.9,5\n1,5\n1000,5\n1.1,9\n0.9,5\n1,5\n1.1,5\n0.9,5\n");
    let output = on_cpu(&hook, &spike);
    assert_eq!((&output.fields["anomalies"], &output.fields["windows"]), (&2.into(), &1.into()));
    let rows = summary(&hook, &spike, &output);
    assert_eq!([cell(&rows[0], "anomalies"), cell(&rows[1], "anomalies")], ["1", "1"]);
    let quiet = table(&hook, "a\n3\n3\n3\n3\n3\n");
    let output = on_cpu(&hook, &quiet);
    assert_eq!((&output.fields["anomalies"], &output.fields["worst_z"]), (&0.into(), &0.0.into()));
}

#[test]
fn windows_follow_time_and_gaps_have_none() {
    let hook = hook("window_seconds = 60");
    let text = "time,a\n2024-05-01T00:00:00Z,1\n2024-05-01T00:00:59Z,2\n2024-05-01T00:01:00Z,3\n2024-05-01T01:00:30Z,\n";
    let table = table(&hook, text);
    let output = on_cpu(&hook, &table);
    let rows = summary(&hook, &table, &output);
    let found: Vec<_> = rows
        .iter()
        .map(|row| ["start", "count", "missing", "mean"].map(|name| cell(row, name)))
        .collect();
    let expected = [
        ["2024-05-01T00:00:00Z", "2", "0", "1.5"],
        ["2024-05-01T00:01:00Z", "1", "0", "3.0"],
        ["2024-05-01T01:00:30Z", "0", "1", ""],
    ];
    assert_eq!(found, expected);
    assert_eq!((&output.fields["windows"], &output.fields["missing"]), (&3.into(), &1.into()));
}

/// Tables of all sorts: text, window_rows, window_seconds.
fn tables() -> impl Strategy<Value = (String, u32, f32)> {
    let cell = prop_oneof![
        6 => (-100.0..100.0_f64).prop_map(|number| format!("{number:.2}")),
        1 => (-1e30..1e30_f64).prop_map(|number| number.to_string()),
        1 => Just("20".to_owned()),
        1 => Just(String::new()),
        1 => Just("bad".to_owned()),
    ];
    let row = (proptest::collection::vec(cell, 3), 0_u32..90);
    let rows = proptest::collection::vec(row, 1..400);
    (rows, any::<bool>(), 1_u32..500, 1.0_f32..1000.0).prop_map(
        |(rows, timed, window_rows, window_seconds)| {
            let mut text = if timed { "time,a,b,c,n\n" } else { "a,b,c,n\n" }.to_owned();
            let mut time = 1_700_000_000;
            for (cells, step) in rows {
                time += step;
                let time = if timed { format!("{time},") } else { String::new() };
                text.push_str(&format!("{time}{},1\n", cells.join(",")));
            }
            (text, window_rows, window_seconds)
        },
    )
}

fn close(found: &str, expected: f64, scale: f64) -> bool {
    (found.parse::<f64>().unwrap() - expected).abs() <= 1e-5 * scale.max(1.0)
}

/// Recomputes a row of the summary in 64 bits from the cells of the file.
fn check_row(row: &[(String, String)], mut values: Vec<f64>) {
    let number = |name| cell(row, name);
    assert_eq!(number("count"), values.len().to_string(), "{row:?}");
    if values.is_empty() {
        assert_eq!(number("mean"), "");
        return;
    }
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let scale = values[0].abs().max(values[values.len() - 1].abs());
    let part = |percent: usize| values[(values.len() * percent).div_ceil(100) - 1];
    for (name, expected) in [
        ("min", values[0]),
        ("max", values[values.len() - 1]),
        ("mean", mean),
        ("deviation", deviation),
        ("p50", part(50)),
        ("p95", part(95)),
        ("p99", part(99)),
    ] {
        assert!(close(number(name), expected, scale), "{name} {expected}: {row:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_twin_sums_up_what_is_in_the_file((text, window_rows, _) in tables()) {
        let hook = hook(&format!("window_rows = {window_rows}"));
        let lines: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
        prop_assume!(!text.starts_with("time"));
        let table = table(&hook, &text);
        let output = on_cpu(&hook, &table);
        let names: Vec<_> = text.lines().next().unwrap().split(',').collect();
        let rows = summary(&hook, &table, &output);
        assert_eq!(rows.len(), lines.len().div_ceil(window_rows as usize) * table.columns.len());
        for row in rows {
            let start: usize = cell(&row, "start").parse().unwrap();
            let at = names.iter().position(|name| *name == cell(&row, "column")).unwrap();
            let window = lines[start..].iter().take(window_rows as usize);
            check_row(&row, window.filter_map(|line| line[at].parse().ok()).collect());
        }
    }
}

#[cfg(feature = "gpu")]
fn check_gpu(
    gpu: &crate::gpu::Gpu,
    hook: &Hook,
    compiled: &crate::gpu::Compiled,
    tables: &[Table],
) {
    let found = gpu.run(hook, compiled, tables).unwrap();
    for (found, table) in found.iter().zip(tables) {
        let expected = on_cpu(hook, table);
        let apart = tables_apart(hook, &found.rows, &expected.rows).unwrap();
        assert!(apart <= 1e-4, "{apart}");
        for (name, expected) in &expected.fields {
            let found = found.fields[name].as_f64().unwrap();
            let expected = expected.as_f64().unwrap();
            assert!(
                (found - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{name} {found} {expected}"
            );
        }
    }
}

#[cfg(feature = "gpu")]
#[test]
fn shaders_and_twin_sum_up_alike() {
    let Some(gpu) = crate::gpu::tests::gpu() else { return };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..12 {
        let (text, window_rows, window_seconds) = tables().new_tree(&mut runner).unwrap().current();
        let hook = hook(&format!("window_rows = {window_rows}\nwindow_seconds = {window_seconds}"));
        let compiled = gpu.compile(&hook).unwrap();
        let short: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
        let both = [table(&hook, &text), table(&hook, &short)];
        check_gpu(&gpu, &hook, &compiled, &both[..1]);
        check_gpu(&gpu, &hook, &compiled, &both);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn the_largest_window_ends_in_time_on_the_gpu() {
    let Some(gpu) = crate::gpu::tests::gpu() else { return };
    let hook = hook("window_rows = 1000000");
    let mut text = "a\n".to_owned();
    (0..1_000_000).for_each(|row| text.push_str(&format!("{:.3}\n", 20.0 + noise(row))));
    let tables = [table(&hook, &text)];
    check_gpu(&gpu, &hook, &gpu.compile(&hook).unwrap(), &tables);
    assert_eq!(on_cpu(&hook, &tables[0]).fields["rows"], 1_000_000);
}

#[cfg(feature = "gpu")]
#[test]
fn windows_beyond_the_first_side_of_groups_are_summed_up() {
    let Some(gpu) = crate::gpu::tests::gpu() else { return };
    let hook = hook("window_rows = 1");
    let mut text = "a\n".to_owned();
    (0..32_801).for_each(|row| text.push_str(&format!("{row}\n")));
    check_gpu(&gpu, &hook, &gpu.compile(&hook).unwrap(), &[table(&hook, &text)]);
}
