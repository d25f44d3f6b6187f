//! Sizes and dispatches for a batch of pictures, checked against the adapter's limits before anything is created.

use super::GpuError;
use super::prelude::{Access, Binding, Resource};
use crate::hook::{Hook, ParamValue};

/// Smallest buffer: none may be empty, and uniforms are whole multiples of it.
const BUFFER_BYTES_MIN: u64 = 16;

/// Where a file's data lies. In the shader: `File`.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// In words, as all offsets and lengths here.
    pub(super) offset: u32,
    pub(super) size: [u32; 2],
    pub(super) out_offset: u32,
    pub(super) out_size: [u32; 2],
}

impl File {
    /// The members of the shader's structure.
    pub(super) fn words(self) -> [u32; 8] {
        let [width, height] = self.size;
        let [out_width, out_height] = self.out_size;
        let (len, out_len) = (width * height, out_width * out_height);
        [self.offset, len, width, height, self.out_offset, out_len, out_width, out_height]
    }

    pub(super) fn out_bytes(self) -> u64 {
        u64::from(self.out_size[0]) * u64::from(self.out_size[1]) * 4
    }
}

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
        images: &[[u32; 2]],
        limits: &wgpu::Limits,
    ) -> Result<Self, GpuError> {
        let count = u32::try_from(images.len()).unwrap_or(u32::MAX);
        let files = place(hook, images)?;
        let largest = |size: fn(&File) -> [u32; 2]| {
            files.iter().map(size).fold([1, 1], |a, b| [a[0].max(b[0]), a[1].max(b[1])])
        };
        let values = hook.pass_values(largest(|file| file.size), largest(|file| file.out_size));
        let mut batch = vec![count];
        for buffer in hook.buffers() {
            let problem = |error| GpuError::Broken(format!("buffers.{}.len {error}", buffer.name));
            batch.push(buffer.len.count(&values).map_err(problem)?);
        }
        let words = |size: fn(File) -> u64| files.iter().map(|file| size(*file)).sum::<u64>();
        let mut sizes = Vec::new();
        for binding in bindings {
            let bytes = match binding.resource {
                Resource::Files => u64::from(count) * 32,
                Resource::Input => {
                    words(|file| u64::from(file.size[0]) * u64::from(file.size[1])) * 4
                }
                Resource::Output => words(File::out_bytes),
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
        let groups = groups(hook, &values, count, limits)?;
        let plan = Self { files, batch, sizes, groups };
        plan.check(hook, bindings, limits)?;
        Ok(plan)
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
        // Beside the buffers: the upload's staging copy of the input and the results on their way back.
        let sum = self.sizes.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let input: u64 =
            self.files.iter().map(|f| u64::from(f.size[0]) * u64::from(f.size[1])).sum();
        let output: u64 = self.files.iter().map(|file| file.out_bytes()).sum();
        let bytes = sum.saturating_add(input * 4 * 2).saturating_add(output * 2);
        let limit = hook.limits().memory_bytes_max;
        if bytes > limit {
            return Err(GpuError::TooLarge(format!(
                "the shaders need {bytes} bytes of memory; limits.memory allows {limit}"
            )));
        }
        Ok(())
    }
}

fn place(hook: &Hook, images: &[[u32; 2]]) -> Result<Vec<File>, GpuError> {
    let too_large = || GpuError::TooLarge("the pictures have more than 2^32 pixels".to_owned());
    let pixels = |[width, height]: [u32; 2]| width.checked_mul(height).ok_or_else(too_large);
    let (mut offset, mut out_offset) = (0_u32, 0_u32);
    let mut files = Vec::new();
    for size in images {
        let out_size = hook
            .output_size(size[0], size[1])
            .map_err(|error| GpuError::Broken(format!("the size of output.image {error}")))?;
        files.push(File { offset, size: *size, out_offset, out_size });
        offset = offset.checked_add(pixels(*size)?).ok_or_else(too_large)?;
        out_offset = out_offset.checked_add(pixels(out_size)?).ok_or_else(too_large)?;
    }
    Ok(files)
}

fn groups(
    hook: &Hook,
    values: &[f64],
    files: u32,
    limits: &wgpu::Limits,
) -> Result<Vec<[u32; 3]>, GpuError> {
    let limit = limits.max_compute_workgroups_per_dimension;
    let pass = |(index, pass): (usize, &crate::hook::Pass)| {
        let count = |axis: usize| {
            let problem =
                |error| GpuError::Broken(format!("pass[{index}].dispatch[{axis}] {error}"));
            let count = pass.dispatch[axis].count(values).map_err(problem)?;
            if count <= limit {
                return Ok(count);
            }
            Err(GpuError::TooLarge(format!(
                "pass[{index}].dispatch[{axis}] is {count} groups; this adapter takes at most {limit}"
            )))
        };
        Ok([count(0)?, count(1)?, files])
    };
    hook.passes().iter().enumerate().map(pass).collect()
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
