//! Hooks: what looks at every file on arrival. A [`Hook`] is a folder with `hook.toml` and WGSL shaders; it runs in a
//! worker process that has no credentials, no network and no files but the ones it is handed.
//!
//! ```text
//! daemon                                             worker (fsd hook-worker)
//! Hook::parse ─► WorkerProcess::spawn ── socket ──►  worker_main: device, then the sandbox
//!                WorkerProcess::load  ── sources ──► inspect, compile, run once
//!                WorkerProcess::run   ── open fds ─► decode ─► GPU, or CPU twin ─► encode
//!                JobOutput, for each  ◄─ memfds ───
//! ```
//!
//! A hook may be a program instead: [`Programs`] runs it in a sandbox or a container of its own.
//!
//! Invariant: the daemon's side never decodes a file, compiles a shader or touches a driver.

mod audio;
mod batch;
mod client;
mod decode;
mod derived;
mod encode;
mod engine;
#[cfg(feature = "gpu")]
mod gpu;
mod hook;
mod kernels;
mod pipeline_cache;
mod program;
mod protocol;
mod raw;
mod ready;
mod sandbox;
mod self_test;
mod source;
mod spare;
mod table;
#[cfg(feature = "gpu")]
mod tiles;
mod worker;

pub use client::{
    Advice, Derived, JobError, JobOutput, WORKER_ARGUMENT, WorkerConfig, WorkerProcess,
};
pub use hook::{
    API, AudioSpec, Bounds, Channels, Combine, Command, Container, Expr, ExprError, FILE_BYTES_MAX,
    FILES_MAX, FieldType, Hook, HookError, HookSource, HookVersion, Image, ImageFormat,
    ImageOutput, InputSpec, Kind, Limits, OutputSpec, ParamType, ParamValue, Params, Program,
    RECTS_MAX, Rect, Runtime, Shaders, TableFormat, TableOutput, TableSpec, Tiles, ValueError,
    Work,
};
pub use kernels::{Bound, Card, Cost, TypicalCost, typical_costs};
pub use program::{Change, Context, Programs};
pub use protocol::{AdapterInfo, AdapterReport, BATCH_FILES_MAX, Engine, Hello, Sandbox};
pub use ready::{ReadyHook, ready_hooks};
pub use self_test::{BatchReport, KernelReport, Measured, SelfTest, Tested, self_test};
pub use worker::worker_main;
