//! Hooks on the GPU: a device, compiled pipelines, and one dispatch of each pass for a batch of files.
//!
//! Invariant: nothing here is safe from a shader that runs for ever. A submission cannot be stopped, so after
//! [`GpuError::Timeout`] the process must end.

mod device;
mod file;
mod inspect;
mod need;
mod pipeline;
mod pipeline_cache;
mod plan;
mod prelude;
mod speed;
mod subject;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use image::RgbaImage;
use serde_json::{Map, Value};
use thiserror::Error;

pub(crate) use device::{Gpu, adapters};
pub(crate) use inspect::{ShaderError, inspect_hook};
pub(crate) use need::alike;
pub(crate) use pipeline::Compiled;
pub(crate) use subject::Subject;

/// What a hook gives for one file of a batch.
#[derive(Debug)]
pub(crate) struct GpuOutput {
    pub(crate) image: Option<RgbaImage>,
    /// The rows of a derived table.
    pub(crate) rows: Vec<u32>,
    pub(crate) fields: Map<String, Value>,
}

/// Why the GPU gave nothing.
#[derive(Debug, Error)]
pub(crate) enum GpuError {
    /// The hook's fault.
    #[error(transparent)]
    Shader(#[from] ShaderError),
    /// The hook's fault, found by the driver or in an expression.
    #[error("{0}")]
    Broken(String),
    /// The file does not fit this adapter, or the hook's own memory limit.
    #[error("{0}")]
    TooLarge(String),
    /// The adapter has no memory left.
    #[error("the GPU is out of memory: {0}")]
    OutOfMemory(String),
    /// The shaders still run.
    #[error("the shaders ran longer than gpu_ms = {}", .0.as_millis())]
    Timeout(Duration),
    /// The device is gone.
    #[error("the GPU device was lost: {0}")]
    Lost(String),
}

impl GpuError {
    /// Whether the process has to end.
    pub(crate) fn is_the_end(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Lost(_))
    }
}
