//! What graphics adapters a machine has, how fast the one that hooks use is, and whether it says what the CPU says.
//!
//! It runs in a process of its own: a driver may take it along.

use serde::{Deserialize, Serialize};

use crate::protocol::{AdapterInfo, AdapterReport};

/// What a self-test found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// All adapters, those first that would be taken first.
    pub adapters: Vec<AdapterReport>,
    /// The adapter that hooks run on, tested; or why they run on none.
    pub tested: Result<Tested, String>,
}

/// How an adapter did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Which it is.
    pub adapter: AdapterInfo,
    /// Bytes a second that are copied in its memory; each is read once and written once.
    pub copy_bytes_per_second: Measured,
    /// Operations a second of a product of two matrices of 32-bit floats, a multiplication and an addition each.
    pub matmul_operations_per_second: Measured,
    /// The side of these matrices.
    pub matmul_side: u32,
    /// The ready hooks.
    pub kernels: Vec<KernelReport>,
    /// What it gains by thumbnails of several pictures in one dispatch, or why that can't be told.
    pub batches: Result<Vec<BatchReport>, String>,
}

/// Thumbnails of several pictures in one dispatch, beside one dispatch for each; decoded and back as pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchReport {
    /// How many pictures.
    pub files: usize,
    /// Their width and height.
    pub side: u32,
    /// Milliseconds for all in one dispatch.
    pub together_millis: f64,
    /// The same in as many dispatches as there are files.
    pub alone_millis: f64,
}

impl BatchReport {
    /// How many times faster they are together.
    #[must_use]
    pub fn gain(&self) -> f64 {
        self.alone_millis / self.together_millis
    }
}

/// A figure, or why there is none.
pub type Measured = Result<f64, String>;

/// The shaders of a ready hook beside its CPU twin, on the same pictures or tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelReport {
    /// The hook.
    pub hook: String,
    /// Whether they give the same, within what is meant by that for this hook.
    pub agrees: bool,
    /// How far the channels of a pixel are apart at most, of 255.
    pub channel_apart: u8,
    /// How far numbers are apart at most, relative to the larger one or to 1.
    pub relative_apart: f64,
    /// Milliseconds for a picture of 1920 x 1080, or a table of 20,000 rows and 4 columns, with the way there and back.
    pub gpu_millis: f64,
    /// The same on the CPU.
    pub cpu_millis: f64,
    /// Why there is nothing to compare.
    pub error: Option<String>,
}

impl SelfTest {
    /// Whether a kernel says something else than its twin, or a product was wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.tested.as_ref().is_ok_and(|tested| {
            tested.matmul_operations_per_second.is_err()
                || tested.copy_bytes_per_second.is_err()
                || tested.kernels.iter().any(|kernel| !kernel.agrees)
        })
    }
}

/// Tests the adapter that hooks would use; a program on the CPU that stands in for one only if `allow_software` says so.
#[cfg(not(feature = "gpu"))]
#[must_use]
pub fn self_test(_allow_software: bool) -> SelfTest {
    SelfTest { adapters: Vec::new(), tested: Err("this fsd was built without GPU support".into()) }
}

#[cfg(feature = "gpu")]
pub use with_gpu::self_test;

#[cfg(feature = "gpu")]
mod with_gpu {
    use std::time::Instant;

    use super::{BatchReport, KernelReport, SelfTest, Tested};
    use crate::gpu::{Gpu, GpuError, adapters};
    use crate::hook::{Hook, HookError};
    use crate::kernels::Apart;
    use crate::kernels::apart::{apart, on_cpu, picture, table_on_cpu, tables_apart};
    use crate::ready::{ReadyHook, ready_hooks};
    use crate::table::Table;

    /// Pictures with every kind of edge, and the one that is timed.
    const SIZES: &[[u32; 2]] = &[[1, 1], [3, 5], [2, 300], [640, 427], [1031, 769]];
    const TIMED: [u32; 2] = [1920, 1080];
    /// Tables, rows and columns, and the one that is timed.
    const TABLES: &[[u32; 2]] = &[[1, 1], [59, 3], [61, 1], [1000, 8]];
    const TIMED_TABLE: [u32; 2] = [20_000, 4];
    /// Batches that are timed, files and their sides: small ones, and as many of a megapixel as go together.
    const BATCHES: &[(usize, u32)] = &[(64, 16), (64, 64), (4, 1024)];
    /// The best of so many.
    const ROUNDS: usize = 3;

    /// Tests the adapter that hooks would use; a program on the CPU that stands in for one only if `allow_software` says so.
    #[must_use]
    pub fn self_test(allow_software: bool) -> SelfTest {
        let tested = Gpu::open(allow_software).map(|gpu| {
            let (speed, matmul_side) = match gpu.matmul_speed() {
                Ok((speed, side)) => (Ok(speed), side),
                Err(error) => (Err(error.to_string()), 0),
            };
            Tested {
                adapter: gpu.info().clone(),
                copy_bytes_per_second: gpu.copy_speed().map_err(|error| error.to_string()),
                matmul_operations_per_second: speed,
                matmul_side,
                kernels: ready_hooks().iter().map(|ready| kernel(&gpu, ready)).collect(),
                batches: batches(&gpu).map_err(|error| error.to_string()),
            }
        });
        SelfTest { adapters: adapters(), tested }
    }

    #[derive(Debug, thiserror::Error)]
    enum KernelError {
        #[error(transparent)]
        Hook(#[from] HookError),
        #[error(transparent)]
        Gpu(#[from] GpuError),
        #[error("it has no CPU twin")]
        NoTwin,
        #[error("shaders and CPU twin give different things: {0}")]
        Different(String),
    }

    fn kernel(gpu: &Gpu, ready: &ReadyHook) -> KernelReport {
        let (outcome, error) = match compare(gpu, ready) {
            Ok(outcome) => (outcome, None),
            Err(error) => (Outcome::default(), Some(error.to_string())),
        };
        KernelReport {
            hook: ready.name.to_owned(),
            agrees: outcome.agrees,
            channel_apart: outcome.apart.channel,
            relative_apart: outcome.apart.relative,
            gpu_millis: outcome.gpu_millis,
            cpu_millis: outcome.cpu_millis,
            error,
        }
    }

    #[derive(Default)]
    struct Outcome {
        agrees: bool,
        apart: Apart,
        gpu_millis: f64,
        cpu_millis: f64,
    }

    fn compare(gpu: &Gpu, ready: &ReadyHook) -> Result<Outcome, KernelError> {
        let hook = Hook::parse(ready.source())?;
        if hook.table().is_some() {
            return compare_tables(gpu, &hook);
        }
        let tolerance = hook.cpu_twin().ok_or(KernelError::NoTwin)?.tolerance;
        let compiled = gpu.compile(&hook)?;
        let mut outcome = Outcome::default();
        for &size in SIZES.iter().chain([&TIMED]) {
            let image = picture(size);
            let begin = now();
            let found = gpu.run(&hook, &compiled, std::slice::from_ref(&image))?;
            outcome.gpu_millis = millis_since(begin);
            let begin = now();
            let expected = on_cpu(&hook, &image).ok_or(KernelError::NoTwin)?;
            outcome.cpu_millis = millis_since(begin);
            for found in found {
                let apart = apart(&found, &expected).map_err(KernelError::Different)?;
                outcome.apart = outcome.apart.worst(apart);
            }
        }
        outcome.agrees = outcome.apart.is_within(tolerance);
        Ok(outcome)
    }

    fn compare_tables(gpu: &Gpu, hook: &Hook) -> Result<Outcome, KernelError> {
        let tolerance = hook.cpu_twin().ok_or(KernelError::NoTwin)?.tolerance;
        let compiled = gpu.compile(hook)?;
        let mut outcome = Outcome::default();
        for &[rows, cols] in TABLES.iter().chain([&TIMED_TABLE]) {
            let table = Table::readings(rows, cols);
            let begin = now();
            let found = gpu.run(hook, &compiled, std::slice::from_ref(&table))?;
            outcome.gpu_millis = millis_since(begin);
            let begin = now();
            let expected = table_on_cpu(hook, &table).ok_or(KernelError::NoTwin)?;
            outcome.cpu_millis = millis_since(begin);
            for found in found {
                let rows = tables_apart(hook, &found.rows, &expected.rows);
                let rows = rows.map_err(KernelError::Different)?;
                let apart = apart(&found, &expected).map_err(KernelError::Different)?;
                outcome.apart = outcome.apart.worst(apart);
                outcome.apart.relative = outcome.apart.relative.max(rows);
            }
        }
        outcome.agrees = outcome.apart.is_within(tolerance);
        Ok(outcome)
    }

    fn batches(gpu: &Gpu) -> Result<Vec<BatchReport>, KernelError> {
        let ready = ready_hooks().iter().find(|ready| ready.name == "thumbnail");
        let hook = Hook::parse(ready.ok_or(KernelError::NoTwin)?.source())?;
        let compiled = gpu.compile(&hook)?;
        let mut reports = Vec::new();
        for &(files, side) in BATCHES {
            let pictures = vec![picture([side, side]); files];
            let (mut together_millis, mut alone_millis) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..ROUNDS {
                let begin = now();
                gpu.run(&hook, &compiled, &pictures)?;
                together_millis = together_millis.min(millis_since(begin));
                let begin = now();
                for picture in &pictures {
                    gpu.run(&hook, &compiled, std::slice::from_ref(picture))?;
                }
                alone_millis = alone_millis.min(millis_since(begin));
            }
            reports.push(BatchReport { files, side, together_millis, alone_millis });
        }
        Ok(reports)
    }

    fn millis_since(begin: Instant) -> f64 {
        begin.elapsed().as_secs_f64() * 1e3
    }

    #[expect(clippy::disallowed_methods, reason = "it measures a device, in real time")]
    fn now() -> Instant {
        Instant::now()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        #[expect(clippy::print_stdout, reason = "skips are printed and counted")]
        fn the_adapter_of_this_machine_says_what_its_cpu_says() {
            let found = self_test(true);
            let tested = match &found.tested {
                Ok(tested) => tested,
                Err(why) => return println!("SKIP: no self-test: {why}"),
            };
            assert!(!found.is_wrong(), "{found:#?}");
            assert_eq!(tested.kernels.len(), ready_hooks().len());
            let batches = tested.batches.as_ref().unwrap();
            assert!(batches.iter().all(|batch| batch.gain() > 0.0), "{batches:?}");
            assert_eq!(batches.len(), BATCHES.len());
            assert!(found.adapters.iter().any(|report| report.adapter == tested.adapter));
            assert!(tested.copy_bytes_per_second.as_ref().is_ok_and(|speed| *speed > 1e6));
            assert!(tested.matmul_operations_per_second.as_ref().is_ok_and(|speed| *speed > 1e6));
        }
    }
}
