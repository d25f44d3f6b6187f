//! A file with what the driver keeps of compiled shaders, from one worker to the next. Whatever happens to it, shaders are compiled.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::Hello;
use crate::worker::{KEPT_BYTES_MAX, is_sealed};

const KEY_CHARS_MAX: usize = 128;

/// The file for the adapter of a worker in the folder `dir`; none if its driver keeps nothing.
pub(crate) fn file_of(dir: &Path, hello: &Hello) -> Option<PathBuf> {
    let key = hello.adapter.as_ref().ok()?.cache_key.as_ref()?;
    // It comes from a worker.
    let is_sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (key.len() <= KEY_CHARS_MAX && key.chars().all(is_sound)).then(|| dir.join(key))
}

/// Puts what `from` holds, a sealed file, in the place of `path`, in one step.
pub(crate) fn keep(path: &Path, mut from: File) -> io::Result<()> {
    if !is_sealed(&from) || from.metadata()?.len() > KEPT_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Several workers may do so at a time.
    let part = folder.join(format!(".{}-{:?}", std::process::id(), std::thread::current().id()));
    let written = File::create(&part).and_then(|mut file| io::copy(&mut from, &mut file));
    written.and_then(|_| std::fs::rename(&part, path)).inspect_err(|_| {
        // There may be none.
        let _ = std::fs::remove_file(&part);
    })
}
