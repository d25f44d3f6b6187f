//! The FUSE mount. It only translates: what a call means is in the vfs.
//!
//! Every request is tried at once on the session's thread; one that has to wait for the cloud goes on as a task, so the thread
//! that serves the kernel never waits for the network.

mod data;
mod killed;
mod map;
mod ops;
mod polling;
mod reply;
mod server;

pub use server::{Mount, MountError, MountOptions, mount};
