//! Compiling a hook and running it over a batch.

use std::sync::mpsc;
use std::time::Duration;

use image::RgbaImage;
use serde_json::{Map, Value};

use super::device::{Gpu, ready};
use super::file::{self, File};
use super::inspect::{Inspected, inspect};
use super::plan::Plan;
use super::prelude::{self, Access, Binding, Resource};
use super::subject::Subject;
use super::{GpuError, GpuOutput};
use crate::audio::Audio;
use crate::hook::{FieldType, Hook, Kind, ParamValue, Pass, Shape};
use crate::raw::Raw;
use crate::table::Table;
use crate::tiles::{Place, Tile};

/// A hook's pipelines.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(super) bindings: Vec<Binding>,
    passes: Vec<CompiledPass>,
}

#[derive(Debug)]
struct CompiledPass {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// The numbers of the bindings it uses.
    used: Vec<usize>,
}

impl Gpu {
    /// Compiles a hook and runs it once on the smallest input there is, since drivers put off the larger part of compiling until then.
    ///
    /// # Errors
    /// A shader is wrong, or too much for the driver.
    pub(crate) fn compile(&self, hook: &Hook) -> Result<Compiled, GpuError> {
        let bindings = prelude::bindings(hook);
        let source = prelude::source(hook);
        let mut passes = Vec::new();
        for pass in hook.passes() {
            let inspected = inspect(hook, pass, &source, &bindings)?;
            passes.push(self.scoped(|| self.compile_pass(pass, &bindings, inspected))?);
        }
        let compiled = Compiled { bindings, passes };
        let (what, tried) = match hook.kind() {
            Kind::Image => {
                ("a picture of one pixel", self.try_on(hook, &compiled, RgbaImage::new(1, 1)))
            }
            Kind::Table(_) => {
                ("a table of one cell", self.try_on(hook, &compiled, Table::smallest()))
            }
            Kind::Audio(_) => {
                ("a sound of one frame", self.try_on(hook, &compiled, Audio::smallest()))
            }
            Kind::Bytes => ("a file of one byte", self.try_on(hook, &compiled, Raw::smallest())),
        };
        match tried {
            Ok(_) => Ok(compiled),
            Err(GpuError::TooLarge(why)) => Err(GpuError::Broken(format!("on {what}: {why}"))),
            Err(error) => Err(error),
        }
    }

    fn try_on(
        &self,
        hook: &Hook,
        compiled: &Compiled,
        piece: impl Subject,
    ) -> Result<Vec<GpuOutput>, GpuError> {
        let place = hook.tiles().map(|_| Place::of_all(piece.shape()));
        self.run(hook, compiled, &[Tile { piece, place }])
    }

    /// Runs a compiled hook over a batch of files with one dispatch for each pass.
    ///
    /// # Errors
    /// After [`GpuError::Timeout`] and [`GpuError::Lost`] the device is of no use any more.
    pub(crate) fn run(
        &self,
        hook: &Hook,
        compiled: &Compiled,
        inputs: &[impl Subject],
    ) -> Result<Vec<GpuOutput>, GpuError> {
        self.run_for(hook, compiled, inputs, hook.limits().run_max)
    }

    /// The same, for so long at most.
    ///
    /// # Errors
    /// See [`Gpu::run`].
    pub(crate) fn run_for(
        &self,
        hook: &Hook,
        compiled: &Compiled,
        inputs: &[impl Subject],
        time: Duration,
    ) -> Result<Vec<GpuOutput>, GpuError> {
        let plan = Plan::new(hook, &compiled.bindings, inputs, &self.limits)?;
        let (sent, back) = self.scoped(|| {
            let buffers = self.buffers(&compiled.bindings, &plan);
            self.upload(hook, compiled, &plan, inputs, &buffers);
            self.submit(compiled, &plan, &buffers)
        })?;
        self.map(sent, &back, time)?;
        let bytes = back
            .get_mapped_range(..)
            .map_err(|error| GpuError::Lost(format!("no result to read: {error}")))?;
        Ok(read(hook, compiled, &plan, &bytes))
    }

    /// Does something with all errors of the device caught.
    pub(super) fn scoped<T>(&self, work: impl FnOnce() -> T) -> Result<T, GpuError> {
        let filters = [
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
        ];
        let mut scopes = filters.map(|filter| Some(self.device.push_error_scope(filter)));
        let value = work();
        let mut failed = None;
        for scope in scopes.iter_mut().rev().filter_map(Option::take) {
            failed = ready(scope.pop()).or(failed);
        }
        if failed.is_some() {
            // On a device that is lost everything fails, but the news of it waits for a poll, whose own outcome is no news.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        match (self.lost(), failed) {
            (Some(why), _) => Err(GpuError::Lost(why)),
            (None, None) => Ok(value),
            (None, Some(wgpu::Error::OutOfMemory { source })) => {
                Err(GpuError::OutOfMemory(source.to_string()))
            }
            (None, Some(wgpu::Error::Validation { description, .. })) => {
                Err(GpuError::Broken(description))
            }
            (None, Some(wgpu::Error::Internal { description, .. })) => {
                Err(GpuError::Broken(description))
            }
        }
    }

    fn compile_pass(
        &self,
        pass: &Pass,
        bindings: &[Binding],
        inspected: Inspected,
    ) -> CompiledPass {
        let used = inspected.bindings;
        let entries: Vec<_> = used
            .iter()
            .map(|number| wgpu::BindGroupLayoutEntry {
                binding: binding_number(*number),
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match bindings[*number].access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&pass.shader),
            source: wgpu::ShaderSource::Wgsl(inspected.source.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&pass.entry),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(&pass.entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: self.kept.as_ref().map(|kept| &kept.cache),
        });
        CompiledPass { pipeline, layout, used }
    }

    fn buffers(&self, bindings: &[Binding], plan: &Plan) -> Vec<wgpu::Buffer> {
        let buffer = |(binding, size): (&Binding, &u64)| {
            let usage = match binding.access {
                Access::Uniform => wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                Access::Read => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                Access::ReadWrite => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            };
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(&binding.name),
                size: *size,
                usage,
                mapped_at_creation: false,
            })
        };
        bindings.iter().zip(&plan.sizes).map(buffer).collect()
    }

    fn upload(
        &self,
        hook: &Hook,
        compiled: &Compiled,
        plan: &Plan,
        inputs: &[impl Subject],
        buffers: &[wgpu::Buffer],
    ) {
        let put = |buffer, words: Vec<u32>| {
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
            self.queue.write_buffer(buffer, 0, &bytes);
        };
        for (binding, buffer) in compiled.bindings.iter().zip(buffers) {
            match binding.resource {
                Resource::Files => put(buffer, plan.files.iter().flat_map(file::words).collect()),
                Resource::Batch => put(buffer, plan.batch.clone()),
                Resource::Params => put(buffer, hook.params().values().map(param_word).collect()),
                Resource::List(index) => put(buffer, list_words(hook, index)),
                Resource::Input => {
                    for (file, input) in plan.files.iter().zip(inputs) {
                        let at = u64::from(file.offset) * 4;
                        self.queue.write_buffer(buffer, at, &input.bytes());
                    }
                }
                // Fresh buffers hold zeros.
                Resource::Output | Resource::Report | Resource::Buffer(_) => {}
            }
        }
    }

    fn submit(
        &self,
        compiled: &Compiled,
        plan: &Plan,
        buffers: &[wgpu::Buffer],
    ) -> (wgpu::SubmissionIndex, wgpu::Buffer) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (pass, [x, y, z]) in compiled.passes.iter().zip(&plan.groups) {
            let entries: Vec<_> = pass
                .used
                .iter()
                .map(|number| wgpu::BindGroupEntry {
                    binding: binding_number(*number),
                    resource: buffers[*number].as_entire_binding(),
                })
                .collect();
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pass.layout,
                entries: &entries,
            });
            let mut encoded = encoder.begin_compute_pass(&Default::default());
            encoded.set_pipeline(&pass.pipeline);
            encoded.set_bind_group(0, &group, &[]);
            encoded.dispatch_workgroups(*x, *y, *z);
        }
        let results = results(&compiled.bindings, plan);
        let back = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("results"),
            size: results.iter().map(|result| result.bytes).sum(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        for result in &results {
            let from = &buffers[result.binding];
            encoder.copy_buffer_to_buffer(from, 0, &back, result.offset, result.bytes);
        }
        (self.queue.submit([encoder.finish()]), back)
    }

    /// Waits until `sent` is done and `back` can be read.
    pub(super) fn map(
        &self,
        sent: wgpu::SubmissionIndex,
        back: &wgpu::Buffer,
        timeout: Duration,
    ) -> Result<(), GpuError> {
        let (mapped, outcome) = mpsc::channel();
        back.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only if the wait below has failed.
            let _ = mapped.send(result);
        });
        self.wait_for(sent, timeout)?;
        match outcome.try_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(GpuError::Lost(error.to_string())),
            Err(error) => Err(GpuError::Lost(format!("the results never came: {error}"))),
        }
    }

    pub(super) fn wait_for(
        &self,
        sent: wgpu::SubmissionIndex,
        timeout: Duration,
    ) -> Result<(), GpuError> {
        let poll = wgpu::PollType::Wait { submission_index: Some(sent), timeout: Some(timeout) };
        let polled = self.device.poll(poll);
        if let Some(why) = self.lost() {
            return Err(GpuError::Lost(why));
        }
        match polled {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(GpuError::Timeout(timeout)),
            Err(error @ wgpu::PollError::WrongSubmissionIndex(..)) => {
                Err(GpuError::Lost(error.to_string()))
            }
        }
    }
}

/// A binding whose content comes back, and where in the results it lies.
struct Returned {
    resource: Resource,
    binding: usize,
    offset: u64,
    bytes: u64,
}

fn results(bindings: &[Binding], plan: &Plan) -> Vec<Returned> {
    let mut offset = 0;
    let mut results = Vec::new();
    for (number, (binding, bytes)) in bindings.iter().zip(&plan.sizes).enumerate() {
        if matches!(binding.resource, Resource::Output | Resource::Report) {
            let resource = binding.resource;
            results.push(Returned { resource, binding: number, offset, bytes: *bytes });
            offset += bytes;
        }
    }
    results
}

fn read(hook: &Hook, compiled: &Compiled, plan: &Plan, bytes: &[u8]) -> Vec<GpuOutput> {
    let results = results(&compiled.bindings, plan);
    let part = |resource: Resource, offset: u64, len: u64| {
        let result = results.iter().find(|result| result.resource == resource)?;
        let start = usize::try_from(result.offset + offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    };
    let report_bytes = hook.output().fields.len() as u64 * 4;
    let file = |(file, index): (&File, u64)| {
        let derived = part(Resource::Output, u64::from(file.out_offset) * 4, file.out_bytes());
        let [width, height] = file.out_size;
        let (image, rows) = match file.shape {
            Shape::Image { .. } => {
                let pixels = derived.map(<[u8]>::to_vec);
                (pixels.and_then(|bytes| RgbaImage::from_raw(width, height, bytes)), Vec::new())
            }
            Shape::Table { .. } | Shape::Audio { .. } | Shape::Bytes { .. } => {
                (None, words(derived.unwrap_or_default()))
            }
        };
        let report = part(Resource::Report, index * report_bytes, report_bytes);
        GpuOutput { image, rows, fields: fields(hook, report.unwrap_or_default()) }
    };
    plan.files.iter().zip(0..).map(file).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn fields(hook: &Hook, report: &[u8]) -> Map<String, Value> {
    let (words, _) = report.as_chunks::<4>();
    let field = |((name, kind), word): (&(String, FieldType), &[u8; 4])| {
        let value = match kind {
            FieldType::U32 => u32::from_le_bytes(*word).into(),
            FieldType::I32 => i32::from_le_bytes(*word).into(),
            FieldType::F32 => f32::from_le_bytes(*word).into(),
            FieldType::Bool => (u32::from_le_bytes(*word) != 0).into(),
        };
        (name.clone(), value)
    };
    hook.output().fields.iter().zip(words).map(field).collect()
}

fn param_word(value: &ParamValue) -> u32 {
    match value {
        ParamValue::U32(value) => *value,
        ParamValue::I32(value) => value.cast_unsigned(),
        ParamValue::F32(value) => value.to_bits(),
        ParamValue::Bool(value) => u32::from(*value),
        ParamValue::Rects(rects) => u32::try_from(rects.len()).unwrap_or(u32::MAX),
    }
}

fn list_words(hook: &Hook, index: usize) -> Vec<u32> {
    let Some(ParamValue::Rects(rects)) = hook.params().values().nth(index) else {
        return Vec::new();
    };
    let edges = rects.iter().flat_map(|rect| [rect.left, rect.top, rect.right, rect.bottom]);
    edges.map(f32::to_bits).collect()
}

fn binding_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
