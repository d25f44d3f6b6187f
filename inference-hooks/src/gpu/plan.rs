//! Sizes and dispatches for a batch of files, checked against the adapter's limits before anything is created.

use super::file::{self, File, words_of};
use super::need::Need;
use super::pipeline::Compiled;
use super::prelude::{Access, Binding, Resource};
use super::subject::Subject;
use super::{Gpu, GpuError};
use crate::hook::{Hook, ParamValue};

/// Smallest buffer: none may be empty, and uniforms are whole multiples of it.
const BUFFER_BYTES_MIN: u64 = 16;

/// What a batch needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// The words of the uniform `batch`.
    pub(super) batch: Vec<u32>,
    /// The bytes of each binding.
    pub(super) sizes: Vec<u64>,
    /// The groups of each pass.
    pub(super) groups: Vec<[u32; 3]>,
}

impl Plan {
    pub(super) fn new(
        hook: &Hook,
        bindings: &[Binding],
        inputs: &[impl Subject],
        limits: &wgpu::Limits,
    ) -> Result<Self, GpuError> {
        let count = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        let files = place(hook, inputs)?;
        if files.is_empty() {
            return Err(GpuError::Broken("there is no file to run on".to_owned()));
        }
        let mut need = Need::default();
        for file in &files {
            need = need.or(&Need::of(hook, file.shape, file.out_size)?);
        }
        let batch: Vec<u32> = std::iter::once(count).chain(need.lens).collect();
        let mut sizes = Vec::new();
        for binding in bindings {
            let bytes = match binding.resource {
                Resource::Files => {
                    files.iter().map(|file| file::words(file).len() as u64 * 4).sum()
                }
                Resource::Input => files.iter().map(|file| words_of(file.shape) * 4).sum(),
                Resource::Output => files.iter().map(|file| file.out_bytes()).sum(),
                Resource::Report => u64::from(count) * hook.output().fields.len() as u64 * 4,
                Resource::Params => hook.params().len() as u64 * 4,
                Resource::Batch => batch.len() as u64 * 4,
                Resource::List(index) => list_bytes(hook, index),
                Resource::Buffer(index) => {
                    let len = batch.get(index + 1).copied().unwrap_or_default();
                    let element =
                        hook.buffers().get(index).map_or(4, |buffer| buffer.element.bytes());
                    u64::from(len) * u64::from(count) * element
                }
            };
            sizes.push(bytes.next_multiple_of(BUFFER_BYTES_MIN).max(BUFFER_BYTES_MIN));
        }
        let groups = groups(&need.groups, count, limits)?;
        let plan = Self { files, batch, sizes, groups };
        plan.check(hook, bindings, limits)?;
        Ok(plan)
    }

    /// What it takes, here and on the adapter. Beside the buffers: the input, the upload's staging copy of it, and the results on their
    /// way back.
    fn memory_bytes(&self) -> u64 {
        let sum = self.sizes.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let input: u64 = self.files.iter().map(|file| words_of(file.shape)).sum();
        let output: u64 = self.files.iter().map(|file| file.out_bytes()).sum();
        sum.saturating_add(input * 4 * 2).saturating_add(output * 2)
    }

    fn check(
        &self,
        hook: &Hook,
        bindings: &[Binding],
        limits: &wgpu::Limits,
    ) -> Result<(), GpuError> {
        for (binding, bytes) in bindings.iter().zip(&self.sizes) {
            let limit = match binding.access {
                Access::Uniform => limits.max_uniform_buffer_binding_size,
                Access::Read | Access::ReadWrite => limits.max_storage_buffer_binding_size,
            };
            let limit = limit.min(limits.max_buffer_size);
            if *bytes > limit {
                let name = &binding.name;
                return Err(GpuError::TooLarge(format!(
                    "`{name}` needs {bytes} bytes; this adapter binds at most {limit}"
                )));
            }
        }
        let bytes = self.memory_bytes();
        let limit = hook.limits().memory_bytes_max;
        if bytes > limit {
            return Err(GpuError::TooLarge(format!(
                "the shaders need {bytes} bytes of memory; limits.memory allows {limit}"
            )));
        }
        Ok(())
    }
}

impl Gpu {
    /// How many of these, from the first one on, share a dispatch that takes no more than `memory_bytes_max`.
    ///
    /// # Errors
    /// Not even the first one does.
    pub(crate) fn fitting(
        &self,
        hook: &Hook,
        compiled: &Compiled,
        inputs: &[impl Subject],
        memory_bytes_max: u64,
    ) -> Result<usize, GpuError> {
        let check = |count: usize| {
            let inputs = inputs.get(..count).unwrap_or(inputs);
            let plan = Plan::new(hook, &compiled.bindings, inputs, &self.limits)?;
            let bytes = plan.memory_bytes();
            if bytes <= memory_bytes_max {
                return Ok(());
            }
            Err(GpuError::TooLarge(format!(
                "a tile needs {bytes} bytes of memory; limits.memory leaves {memory_bytes_max}"
            )))
        };
        check(1).map_err(|error| match error {
            GpuError::TooLarge(why) => {
                GpuError::TooLarge(format!("{why}; use a smaller input.tiles.size"))
            }
            error @ (GpuError::Shader(_)
            | GpuError::Broken(_)
            | GpuError::OutOfMemory(_)
            | GpuError::Timeout(_)
            | GpuError::Lost(_)) => error,
        })?;
        let (mut fits, mut beyond) = (1, inputs.len() + 1);
        while beyond - fits > 1 {
            let middle = usize::midpoint(fits, beyond);
            match check(middle) {
                Ok(()) => fits = middle,
                Err(_) => beyond = middle,
            }
        }
        Ok(fits)
    }
}

fn place(hook: &Hook, inputs: &[impl Subject]) -> Result<Vec<File>, GpuError> {
    let next = |offset: u32, words: u64| {
        let next = u32::try_from(words).ok().and_then(|words| offset.checked_add(words));
        next.ok_or_else(|| GpuError::TooLarge("the files have more than 2^32 words".to_owned()))
    };
    let (mut offset, mut out_offset) = (0_u32, 0_u32);
    let mut files = Vec::new();
    for input in inputs {
        let shape = input.shape();
        let out_size = hook
            .output_size(shape)
            .map_err(|error| GpuError::Broken(format!("the size of its output {error}")))?;
        let (left_out, place) = (input.left_out(), input.place());
        let file = File { shape, offset, left_out, out_offset, out_size, place };
        files.push(file);
        offset = next(offset, words_of(shape))?;
        out_offset = next(out_offset, file.out_bytes() / 4)?;
    }
    Ok(files)
}

fn groups(
    groups: &[[u32; 2]],
    files: u32,
    limits: &wgpu::Limits,
) -> Result<Vec<[u32; 3]>, GpuError> {
    let limit = limits.max_compute_workgroups_per_dimension;
    let pass = |(index, [x, y]): (usize, &[u32; 2])| {
        for (axis, count) in [x, y].into_iter().enumerate() {
            if *count > limit {
                return Err(GpuError::TooLarge(format!(
                    "pass[{index}].dispatch[{axis}] is {count} groups; this adapter takes at most {limit}"
                )));
            }
        }
        Ok([*x, *y, files])
    };
    groups.iter().enumerate().map(pass).collect()
}

fn list_bytes(hook: &Hook, index: usize) -> u64 {
    match hook.params().values().nth(index) {
        Some(ParamValue::Rects(rects)) => rects.len() as u64 * 16,
        Some(
            ParamValue::U32(_) | ParamValue::I32(_) | ParamValue::F32(_) | ParamValue::Bool(_),
        )
        | None => 0,
    }
}
