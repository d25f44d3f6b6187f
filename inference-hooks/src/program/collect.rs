//! Taking what a program left in its output folder: plain files with plain names, within limits. No link is followed and
//! nothing but a file is opened; each is copied to memory and sealed.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, SFlag, fstatat};
use serde_json::{Map, Value};

use super::contract::RESULT;
use crate::client::{Derived, JobError};
use crate::hook::{Bounds, FIELDS_OF_RESULT_MAX, FieldType, Hook};
use crate::worker::SEALS;

/// It is also an extended attribute of the file, which the kernel bounds.
const RESULT_BYTES_MAX: u64 = 32 << 10;
const NAME_BYTES_MAX: usize = 64;

type Fields = Map<String, Value>;

/// The fields of `result.json`, and each other file as a derived one.
pub(super) fn collect(
    folder: &Path,
    hook: &Hook,
    bounds: &Bounds,
) -> Result<(Fields, Vec<Derived>), JobError> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder = Dir::open(folder, flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in folder.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        names.push(sound_name(name)?);
        if names.len() > bounds.output_files_max as usize + 1 {
            let most = bounds.output_files_max;
            let why = format!("the program left more files than limits.output_files = {most}");
            return Err(JobError::OverLimit(why));
        }
    }
    names.sort();
    let own = format!("{}.json", hook.name());
    if names.contains(&own) {
        return Err(bad(format!(
            "`{own}` is what the result itself is called; call it something else"
        )));
    }
    let mut left = bounds.output_bytes_max;
    let mut fields = None;
    let mut derived = Vec::new();
    for name in names {
        let (file, bytes) = open(&folder, &name)?;
        left = left.checked_sub(bytes).ok_or_else(|| {
            let most = bounds.output_bytes_max;
            let why = format!("the program left more than limits.output = {most} bytes");
            JobError::OverLimit(why)
        })?;
        if name == RESULT {
            fields = Some(read_fields(&file, bytes)?);
        } else {
            let copy = sealed(&file, bytes).map_err(JobError::start)?;
            derived.push(Derived::new(format!(".{name}"), media_type(&name).into(), bytes, copy));
        }
    }
    let fields = fields.unwrap_or_default();
    check_fields(&fields, hook)?;
    Ok((fields, derived))
}

fn failed(error: nix::Error) -> JobError {
    JobError::start(error.into())
}

fn bad(why: String) -> JobError {
    JobError::BadOutput(why)
}

/// A name that is good in every share: the path of the file that arrived is put before it.
fn sound_name(name: &[u8]) -> Result<String, JobError> {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    if name.len() <= NAME_BYTES_MAX && name[0] != b'.' && name.iter().all(sound) {
        return Ok(String::from_utf8_lossy(name).into_owned());
    }
    Err(bad(format!(
        "the program left the name \"{}\": use at most {NAME_BYTES_MAX} letters, digits, `.`, `-` and `_`, not from a `.`",
        name.escape_ascii()
    )))
}

fn open(folder: &Dir, name: &str) -> Result<(File, u64), JobError> {
    let found = fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        let what = match kind {
            SFlag::S_IFLNK => "a symbolic link",
            SFlag::S_IFDIR => "a folder",
            SFlag::S_IFIFO => "a FIFO",
            SFlag::S_IFSOCK => "a socket",
            _ => "a device",
        };
        return Err(bad(format!("the program left {what}, `{name}`: only plain files are taken")));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(folder.as_fd(), name, flags, Mode::empty())
        .map_err(|error| bad(format!("the program left `{name}`, which can't be read: {error}")))?;
    let file = File::from(fd);
    let metadata = file.metadata().map_err(JobError::start)?;
    if !metadata.is_file() {
        return Err(bad(format!("`{name}` is no plain file any more")));
    }
    Ok((file, metadata.len()))
}

fn read_fields(file: &File, bytes: u64) -> Result<Fields, JobError> {
    if bytes > RESULT_BYTES_MAX {
        let why = format!("{RESULT} has {bytes} bytes; {RESULT_BYTES_MAX} are allowed");
        return Err(JobError::OverLimit(why));
    }
    let mut text = Vec::new();
    file.take(RESULT_BYTES_MAX).read_to_end(&mut text).map_err(JobError::start)?;
    let fields: Fields = serde_json::from_slice(&text)
        .map_err(|error| bad(format!("{RESULT} is no JSON object: {error}")))?;
    if fields.len() > FIELDS_OF_RESULT_MAX {
        let why =
            format!("{RESULT} has {} fields; {FIELDS_OF_RESULT_MAX} are allowed", fields.len());
        return Err(JobError::OverLimit(why));
    }
    let nested =
        fields.iter().find(|(_, value)| value.is_array() || value.is_object() || value.is_null());
    match nested {
        Some((name, _)) => {
            Err(bad(format!("{RESULT}: `{name}` must be a number, a text, true or false")))
        }
        None => Ok(fields),
    }
}

/// What a hook declares it says: a gate relies on that.
fn check_fields(fields: &Fields, hook: &Hook) -> Result<(), JobError> {
    for (name, kind) in &hook.output().fields {
        let Some(value) = fields.get(name) else {
            return Err(bad(format!(
                "{RESULT} has no `{name}`, which output.json.fields of hook.toml declares"
            )));
        };
        let (is_one, wanted) = match kind {
            FieldType::U32 => (value.as_u64().is_some_and(|n| u32::try_from(n).is_ok()), "u32"),
            FieldType::I32 => (value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()), "i32"),
            FieldType::F32 => (value.is_number(), "f32"),
            FieldType::Bool => (value.is_boolean(), "bool"),
        };
        if !is_one {
            return Err(bad(format!("{RESULT}: `{name}` is {value}, which is no {wanted}")));
        }
    }
    Ok(())
}

/// A copy in memory that nobody can change any more. One that shrinks meanwhile is shorter, one that grows is cut.
fn sealed(file: &File, bytes: u64) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create("derived", flags)?);
    io::copy(&mut file.take(bytes), &mut copy)?;
    copy.rewind()?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(copy)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "csv" => "text/csv",
        "html" => "text/html",
        "jpg" | "jpeg" => "image/jpeg",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "txt" | "log" => "text/plain",
        "wav" => "audio/wav",
        "webp" => "image/webp",
        "xml" => "application/xml",
        _ => "application/octet-stream",
    }
}
