//! How fast an adapter is: copies inside its memory, and a product of matrices whose result is looked at.

use std::time::{Duration, Instant};

use super::{Gpu, GpuError};

/// What is copied at once, unless the adapter takes less.
const COPY_BYTES: u64 = 64 << 20;
/// A measurement goes on for so long.
const LONG_ENOUGH: Duration = Duration::from_millis(300);
/// Nothing that is done here takes as long on an adapter that is of any use.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a group of the shader makes.
const TILE: u32 = 64;
/// Sides of the matrices, for a GPU and for a program on the CPU.
const SIDE: u32 = 2048;
const SIDE_ON_CPU: u32 = 512;

impl Gpu {
    /// Bytes a second that are copied from one buffer to another; each is read once and written once.
    ///
    /// # Errors
    /// The adapter can't, or is gone.
    pub(crate) fn copy_speed(&self) -> Result<f64, GpuError> {
        let bytes = COPY_BYTES.min(self.limits.max_buffer_size) & !3;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffers = self.scoped(|| [(); 2].map(|()| self.buffer(bytes, usage)))?;
        let times = self.repeated(|encoder| {
            encoder.copy_buffer_to_buffer(&buffers[0], 0, &buffers[1], 0, bytes);
        })?;
        Ok(bytes as f64 * times)
    }

    /// Operations a second, multiplications and additions, of a product of two matrices of 32-bit floats; and their side.
    ///
    /// # Errors
    /// The adapter can't, is gone, or says something wrong.
    pub(crate) fn matmul_speed(&self) -> Result<(f64, u32), GpuError> {
        let side = if self.info().software { SIDE_ON_CPU } else { SIDE };
        let bytes = u64::from(side) * u64::from(side) * 4;
        let [a, b] = [7, 11].map(|factor| values(side, factor));
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        let (pipeline, group, buffers) = self.scoped(|| {
            let buffers = [(); 3].map(|()| self.buffer(bytes, usage));
            for (buffer, values) in buffers.iter().zip([&a, &b]) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.queue.write_buffer(buffer, 0, &bytes);
            }
            let module = self.device.create_shader_module(wgpu::include_wgsl!("matmul.wgsl"));
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("matmul"),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let entries: Vec<_> = (0..)
                .zip(&buffers)
                .map(|(binding, buffer)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.as_entire_binding(),
                })
                .collect();
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            (pipeline, group, buffers)
        })?;
        let times = self.repeated(|encoder| {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(side / TILE, side / TILE, 1);
        })?;
        self.check_product(&buffers[2], side, &a, &b)?;
        Ok((2.0 * f64::from(side).powi(3) * times, side))
    }

    /// Whether the product is right, at places all over it. All sums are whole numbers that a float holds exactly.
    fn check_product(
        &self,
        product: &wgpu::Buffer,
        side: u32,
        a: &[f32],
        b: &[f32],
    ) -> Result<(), GpuError> {
        let bytes = self.read_back(product)?;
        let (words, _) = bytes.as_chunks::<4>();
        let side = side as usize;
        for place in 0..side {
            let (row, column) = (place, place * 37 % side);
            let exact: f32 = (0..side).map(|k| a[row * side + k] * b[k * side + column]).sum();
            let found = words.get(row * side + column).copied().map(f32::from_le_bytes);
            if found != Some(exact) {
                return Err(GpuError::Broken(format!(
                    "a product of matrices is wrong in row {row}, column {column}: {found:?} instead of {exact}"
                )));
            }
        }
        Ok(())
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let label = Some("self-test");
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// How often a second `encode` is done. The first time does not count: drivers compile then.
    fn repeated(&self, encode: impl Fn(&mut wgpu::CommandEncoder)) -> Result<f64, GpuError> {
        let once = || {
            let sent = self.scoped(|| {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encode(&mut encoder);
                self.queue.submit([encoder.finish()])
            })?;
            self.wait_for(sent, PATIENCE)
        };
        once()?;
        let begin = now();
        let mut count = 0_u32;
        while count == 0 || begin.elapsed() < LONG_ENOUGH {
            once()?;
            count += 1;
        }
        Ok(f64::from(count) / begin.elapsed().as_secs_f64())
    }

    fn read_back(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let back = self.buffer(buffer.size(), usage);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &back, 0, buffer.size());
        let sent = self.queue.submit([encoder.finish()]);
        self.map(sent, &back, PATIENCE)?;
        let view = back.get_mapped_range(..);
        Ok(view.map_err(|error| GpuError::Lost(format!("no result to read: {error}")))?.to_vec())
    }
}

/// Small whole numbers.
fn values(side: u32, factor: u32) -> Vec<f32> {
    let value = |index: u32| f64::from(index.wrapping_mul(factor) % 5) - 2.0;
    #[expect(clippy::cast_possible_truncation, reason = "-2 to 2")]
    (0..side * side).map(|index| value(index) as f32).collect()
}

#[expect(clippy::disallowed_methods, reason = "it measures a device, in real time")]
fn now() -> Instant {
    Instant::now()
}
