//! POSIX attributes as object metadata: `mode`, `uid`, `gid`, `mtime`, `ctime`, `atime` and `xattr` as s3fs
//! writes them (decimal mode, seconds with a fraction, URL-encoded JSON of base64), which rclone reads too; `rdev` as rclone does (hex).
//! Reading also takes rclone's octal modes and RFC 3339 times, and Azure's `hdi_isfolder` and `is_symlink`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Attr, FileKind, Time};

/// In objects' metadata: which version of which inode of which gateway it is, to know our own writes again.
pub const VERSION_NAME: &str = "fsdversion";

/// Bytes of extended attributes that travel with an object: S3 takes 2 KB of metadata in all.
pub(super) const XATTR_BYTES_MAX: usize = 1400;

/// An object's user metadata: lower-case names without the store's prefix.
pub type Metadata = BTreeMap<String, String>;

/// What an object's metadata says about the file. Absent is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PosixMeta {
    /// What it is.
    pub kind: Option<FileKind>,
    /// Permission bits, the low 12.
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Which device a device node stands for.
    pub rdev: Option<u32>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of the content.
    pub mtime: Option<Time>,
    /// Last change of content or attributes.
    pub ctime: Option<Time>,
    /// Extended attributes, by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl PosixMeta {
    /// What `metadata` says; what can't be read counts as not said.
    #[must_use]
    pub fn read(metadata: &Metadata) -> Self {
        let get = |name: &str| metadata.get(name).map(String::as_str);
        let number = |name| get(name).and_then(|v| v.trim().parse().ok());
        let is_true = |name| get(name).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let mode = get("mode").and_then(parse_mode);
        let kind = match mode.and_then(FileKind::from_mode) {
            _ if is_true("hdi_isfolder") => Some(FileKind::Dir),
            _ if is_true("is_symlink") => Some(FileKind::Symlink),
            kind => kind,
        };
        Self {
            kind,
            perm: mode.map(|m| m & 0o7777),
            uid: number("uid"),
            gid: number("gid"),
            rdev: get("rdev").and_then(|v| u32::from_str_radix(v.trim(), 16).ok()),
            atime: get("atime").and_then(parse_time),
            mtime: get("mtime").and_then(parse_time),
            ctime: get("ctime").and_then(parse_time),
            xattrs: get("xattr").and_then(parse_xattrs).unwrap_or_default(),
        }
    }

    /// The metadata that carries `attr` and as many of `xattrs` as fit into 1,400 bytes.
    #[must_use]
    pub fn write(attr: &Attr, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Metadata {
        let mut metadata = Metadata::from([
            ("mode".into(), (attr.kind.mode_bits() | attr.perm).to_string()),
            ("uid".into(), attr.uid.to_string()),
            ("gid".into(), attr.gid.to_string()),
            ("mtime".into(), format_time(attr.mtime)),
            ("ctime".into(), format_time(attr.ctime)),
            ("atime".into(), format_time(attr.atime)),
        ]);
        if attr.kind == FileKind::Symlink {
            metadata.insert("is_symlink".into(), "true".into());
        }
        if matches!(attr.kind, FileKind::CharDevice | FileKind::BlockDevice) {
            metadata.insert("rdev".into(), format!("{:x}", attr.rdev));
        }
        if let Some(text) = format_xattrs(xattrs) {
            metadata.insert("xattr".into(), text);
        }
        metadata
    }
}

/// s3fs writes decimal, rclone octal. A decimal mode has valid type bits below 65536. An octal one of a file or directory has not
/// when it is read as decimal, but for a directory with the sticky or a set-id bit, which then looks like a symbolic link with
/// unusual permissions; and rclone writes modes of nothing else.
fn parse_mode(text: &str) -> Option<u32> {
    let text = text.trim();
    let decimal: u32 = text.parse().ok()?;
    let octal = u32::from_str_radix(text, 8).ok();
    let is_unusual_link = decimal & libc::S_IFMT == libc::S_IFLNK && decimal & 0o7777 != 0o777;
    if decimal <= 0xffff && FileKind::from_mode(decimal).is_some() {
        let dir = octal.filter(|mode| is_unusual_link && mode & libc::S_IFMT == libc::S_IFDIR);
        return dir.or(Some(decimal));
    }
    octal
}

/// Seconds since 1970 with an optional fraction, or RFC 3339.
fn parse_time(text: &str) -> Option<Time> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Time::from(std::time::SystemTime::from(time)));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Time { secs, nanos })
}

/// Seconds are rounded down, so the fraction is always added, also before 1970.
fn format_time(time: Time) -> String {
    if time.nanos == 0 { time.secs.to_string() } else { format!("{}.{:09}", time.secs, time.nanos) }
}

fn parse_xattrs(text: &str) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let json = percent_decode_str(text).decode_utf8().ok()?;
    let map: BTreeMap<String, String> = serde_json::from_str(&json).ok()?;
    map.into_iter()
        .map(|(name, value)| Some((name.into_bytes(), BASE64.decode(value).ok()?)))
        .collect()
}

fn format_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<String> {
    let mut json = String::new();
    for (name, value) in xattrs {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let mut next = if json.is_empty() { "{".to_owned() } else { format!("{json},") };
        let _ = write!(next, "{}:\"{}\"", serde_json::Value::from(name), BASE64.encode(value));
        if utf8_percent_encode(&next, NON_ALPHANUMERIC).to_string().len() + 3 <= XATTR_BYTES_MAX {
            json = next;
        }
    }
    (!json.is_empty())
        .then(|| utf8_percent_encode(&format!("{json}}}"), NON_ALPHANUMERIC).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr() -> Attr {
        let time = |nanos| Time { secs: 1_700_000_000, nanos };
        Attr {
            kind: FileKind::File,
            perm: 0o4751,
            uid: 1000,
            gid: 100,
            size: 5,
            atime: time(1),
            mtime: time(123_456_789),
            ctime: time(0),
            nlink: 1,
            rdev: 0,
        }
    }

    #[test]
    fn a_device_survives_the_way_to_metadata_and_back() {
        let device = Attr { kind: FileKind::BlockDevice, rdev: 0x1234_abcd, ..attr() };
        let meta = PosixMeta::read(&PosixMeta::write(&device, &BTreeMap::new()));
        assert_eq!((meta.kind, meta.rdev), (Some(FileKind::BlockDevice), Some(0x1234_abcd)));
        let fifo = Attr { kind: FileKind::Fifo, ..attr() };
        let meta = PosixMeta::read(&PosixMeta::write(&fifo, &BTreeMap::new()));
        assert_eq!((meta.kind, meta.rdev, meta.perm), (Some(FileKind::Fifo), None, Some(0o4751)));
    }

    #[test]
    fn attributes_survive_the_way_to_metadata_and_back() {
        let xattrs = BTreeMap::from([(b"user.a\"b".to_vec(), vec![0, 255, 7])]);
        let meta = PosixMeta::read(&PosixMeta::write(&attr(), &xattrs));
        assert_eq!(meta.kind, Some(FileKind::File));
        assert_eq!(meta.perm, Some(0o4751));
        assert_eq!((meta.uid, meta.gid), (Some(1000), Some(100)));
        assert_eq!(meta.mtime, Some(attr().mtime));
        assert_eq!(meta.atime, Some(attr().atime));
        assert_eq!(meta.xattrs, xattrs);
    }

    #[test]
    fn modes_of_s3fs_and_of_rclone_mean_the_same() {
        for (text, mode) in [
            ("33188", 0o100_644),
            ("100644", 0o100_644),
            ("40755", 0o40_755),
            ("16877", 0o40_755),
            ("41471", 0o120_777),
            ("41777", 0o41_777),
            ("42755", 0o42_755),
            ("4516", 0o10_644),
            ("49645", 0o140_755),
            ("120777", 0o120_777),
            ("644", 0o644),
        ] {
            assert_eq!(parse_mode(text), Some(mode), "{text}");
        }
        assert_eq!(parse_mode("rw-r--r--"), None);
    }

    #[test]
    fn times_of_s3fs_and_of_rclone_mean_the_same() {
        let time = |secs, nanos| Some(Time { secs, nanos });
        assert_eq!(parse_time("1700000000"), time(1_700_000_000, 0));
        assert_eq!(parse_time("1700000000.5"), time(1_700_000_000, 500_000_000));
        assert_eq!(parse_time("2023-11-14T22:13:20.25Z"), time(1_700_000_000, 250_000_000));
        assert_eq!(parse_time("-3.000000001"), time(-3, 1));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("1.2x"), None);
    }

    #[test]
    fn extended_attributes_that_do_not_fit_stay_behind() {
        let xattrs = BTreeMap::from([
            (b"user.big".to_vec(), vec![7; 4000]),
            (b"user.small".to_vec(), vec![1]),
        ]);
        let meta = PosixMeta::read(&PosixMeta::write(&attr(), &xattrs));
        assert_eq!(meta.xattrs.keys().collect::<Vec<_>>(), [b"user.small"]);
    }
}
