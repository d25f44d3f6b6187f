//! Files that grow by whole lines.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Adds `lines` to the file at `path`, which is made with `mode` if it is not there; returns how long it is then. A line that somebody left
/// half behind gets an end first.
///
/// # Durability
/// What it wrote survives a power cut.
///
/// # Errors
/// If the disk fails; a part may be written then.
pub fn append(path: &Path, mode: u32, lines: &[u8]) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(mode).open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut end)?;
    }
    let torn = if end == [b'\n'] { &b""[..] } else { b"\n" };
    file.write_all(&[torn, lines].concat())?;
    file.sync_all()?;
    Ok(length + (torn.len() + lines.len()) as u64)
}
