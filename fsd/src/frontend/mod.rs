//! Front ends: each translates one protocol to the vfs, and knows nothing else.

pub mod fuse;
