//! `fsd gpu`

use std::process::Command;

use anyhow::Context as _;
use inference_hooks::{
    AdapterReport, BatchReport, KernelReport, Measured, SelfTest, Tested, self_test,
};
use policies::units::show_bytes;

use super::output::{fact, print, print_json, table};
use super::{Context, Exit, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct GpuArgs {
    /// Also test a program on the CPU that stands in for a GPU, which hooks use only if FSD_ALLOW_SOFTWARE_GPU is set
    #[arg(long)]
    software: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct GpuTestArgs {
    #[arg(long)]
    software: bool,
}

/// What the process says that [`gpu`] starts.
pub(super) fn test(args: &GpuTestArgs) -> Outcome {
    print_json(&self_test(args.software))
}

/// No daemon is asked: each of its workers has a device of its own. A driver may take its process along, so that is another one.
pub(super) fn gpu(args: &GpuArgs, context: &Context<'_>) -> Outcome {
    let allow_software = args.software || context.var("FSD_ALLOW_SOFTWARE_GPU").is_some();
    let mut process = Command::new("/proc/self/exe");
    process.arg("gpu-test").args(allow_software.then_some("--software"));
    // Vulkan's loader complains if there is none.
    let output = process.env("XDG_RUNTIME_DIR", "/").output().context("start the test")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("the test died: {}: {}", output.status, said.trim_end());
        return Err(Failure::new(Exit::Failed, message)
            .hint("update the adapter's driver; hooks go on: they run in processes of their own"));
    }
    let found: SelfTest = serde_json::from_slice(&output.stdout).context("read what it says")?;
    if args.json {
        print_json(&found)?
    } else {
        print(&text(&found))?
    }
    match found.is_wrong() {
        false => Ok(()),
        true => Err(Failure::new(Exit::Differs, "the adapter does not say what the CPU says")
            .hint("update its driver; until then, run hooks on the CPU: unset FSD_ALLOW_SOFTWARE_GPU, or take the GPU's driver away")),
    }
}

fn text(found: &SelfTest) -> String {
    let mut text = String::new();
    if !found.adapters.is_empty() {
        let rows: Vec<_> = found.adapters.iter().map(adapter).collect();
        text.push_str(&table(
            ["adapter", "kind", "driver", "buffer", "binding", "group", "shared", "features"],
            &rows,
        ));
        text.push('\n');
    }
    match &found.tested {
        Err(why) => fact(&mut text, "hooks", &format!("on the CPU: {why}")),
        Ok(tested) => text.push_str(&tested_text(tested)),
    }
    text
}

fn adapter(report: &AdapterReport) -> [String; 8] {
    let info = &report.adapter;
    let kind = if info.software { "software, no GPU".to_owned() } else { info.kind.clone() };
    let features = [(report.f16, "f16"), (report.subgroups, "subgroups")];
    let features: Vec<_> = features.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    [
        info.name.clone(),
        kind,
        info.driver.clone(),
        show_bytes(report.buffer_bytes_max),
        show_bytes(report.binding_bytes_max),
        report.workgroup_invocations_max.to_string(),
        show_bytes(report.workgroup_bytes_max.into()),
        features.join(", "),
    ]
}

fn tested_text(tested: &Tested) -> String {
    let mut text = String::new();
    fact(&mut text, "hooks", &format!("on {}", tested.adapter.name));
    fact(&mut text, "copy", &measured(&tested.copy_bytes_per_second, "GB/s"));
    let side = tested.matmul_side;
    let matmul = measured(&tested.matmul_operations_per_second, "GFLOP/s");
    fact(&mut text, "matmul", &format!("{matmul}, {side} x {side} of 32-bit floats"));
    text.push('\n');
    let rows: Vec<_> = tested.kernels.iter().map(kernel).collect();
    text.push_str(&table(["kernel", "beside its CPU twin", "GPU", "CPU"], &rows));
    text.push('\n');
    match &tested.batches {
        Ok(batches) => {
            let rows: Vec<_> = batches.iter().map(batch).collect();
            text.push_str(&table(["thumbnails", "one dispatch", "one each", "gain"], &rows));
        }
        Err(why) => fact(&mut text, "thumbnails", &format!("several at once: {why}")),
    }
    text
}

fn batch(report: &BatchReport) -> [String; 4] {
    let BatchReport { files, side, together_millis, alone_millis } = report;
    [
        format!("{files} of {side} x {side}"),
        format!("{together_millis:.1} ms"),
        format!("{alone_millis:.1} ms"),
        format!("{:.1} times", report.gain()),
    ]
}

fn measured(measured: &Measured, unit: &str) -> String {
    match measured {
        Ok(value) => format!("{:.1} {unit}", value / 1e9),
        Err(why) => format!("WRONG: {why}"),
    }
}

fn kernel(report: &KernelReport) -> [String; 4] {
    let apart = match (&report.error, report.agrees) {
        (Some(error), _) => format!("WRONG: {error}"),
        (None, agrees) => format!(
            "{}, channels {} of 255 apart at most, numbers {:.0e}",
            if agrees { "agrees" } else { "WRONG" },
            report.channel_apart,
            report.relative_apart
        ),
    };
    let millis = |millis: f64| format!("{millis:.1} ms");
    [report.hook.clone(), apart, millis(report.gpu_millis), millis(report.cpu_millis)]
}

#[cfg(test)]
mod tests {
    use inference_hooks::AdapterInfo;

    use super::*;

    #[test]
    fn a_software_adapter_is_named_as_such_and_a_wrong_kernel_too() {
        let info = AdapterInfo {
            name: "llvmpipe".into(),
            kind: "Cpu".into(),
            driver: "Mesa".into(),
            software: true,
            cache_key: None,
        };
        let report = AdapterReport {
            adapter: info.clone(),
            buffer_bytes_max: 1 << 31,
            binding_bytes_max: 1 << 27,
            workgroup_invocations_max: 1024,
            workgroup_bytes_max: 32 << 10,
            f16: true,
            subgroups: false,
        };
        let kernel = KernelReport {
            hook: "thumbnail".into(),
            agrees: false,
            channel_apart: 9,
            relative_apart: 0.0,
            gpu_millis: 1.0,
            cpu_millis: 2.0,
            error: None,
        };
        let tested = Tested {
            adapter: info,
            copy_bytes_per_second: Ok(2.5e9),
            matmul_operations_per_second: Ok(4e9),
            matmul_side: 512,
            kernels: vec![kernel],
            batches: Ok(vec![BatchReport {
                files: 64,
                side: 64,
                together_millis: 2.0,
                alone_millis: 9.0,
            }]),
        };
        let mut found = SelfTest { adapters: vec![report], tested: Ok(tested) };
        assert!(found.is_wrong());
        let said = text(&found);
        for word in [
            "software, no GPU",
            "2.5 GB/s",
            "4.0 GFLOP/s, 512 x 512",
            "WRONG, channels 9",
            "64 of 64 x 64",
            "4.5 times",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        found.tested = Err("only a software adapter was found, which is not used".into());
        assert!(!found.is_wrong() && text(&found).contains("on the CPU: only a software adapter"));
    }
}
