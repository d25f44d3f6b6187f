//! fsd: an edge storage gateway that is mounted as a drive.

pub mod app;
pub mod cache;
pub mod clock;
pub mod config;
pub mod control;
pub mod events;
pub mod frontend;
pub mod hooks;
pub mod lines;
pub mod meta;
pub mod pace;
pub mod remote;
pub mod rng;
pub mod sinks;
pub mod sync;
pub mod tasks;
pub mod types;
pub mod vfs;
