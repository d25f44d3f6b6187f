//! fsd: an edge storage gateway that is mounted as a drive.

pub mod clock;
pub mod remote;
pub mod types;
