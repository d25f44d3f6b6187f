//! Object keys, and the reversible escape between a path of the drive and a key.
//!
//! A name stands in the key as it is, but for what some store forbids or changes: control characters, bytes
//! that are not UTF-8, backslashes (Azure turns them into slashes) and a dot at the end. Those bytes are written
//! `%XX`, and a `%` that could be read as such an escape is written `%25`. One rule for all stores, so
//! that objects can be moved between stores by any tool. Two names never share a key.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest key that every store takes.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// An object's key below the prefix of its share, as the store has it. A directory's marker ends in `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// A key as a store listed it.
    #[must_use]
    pub fn from_raw(raw: impl Into<String>) -> Self {
        Self(raw.into())
    }

    /// The key as the store has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the key of a directory's marker.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.0.ends_with('/')
    }

    /// What sorts right behind all keys below the directory `NAME/` that this key is: `NAME0`.
    #[must_use]
    pub fn end_of_dir(&self) -> String {
        format!("{}0", self.0.trim_end_matches('/'))
    }

    /// Whether this key lies below `above`, a file's or a directory's; below the empty key lies every other.
    #[must_use]
    pub fn is_below(&self, above: &Key) -> bool {
        let above = above.0.trim_end_matches('/');
        let rest = self.0.trim_end_matches('/').strip_prefix(above);
        rest.is_some_and(|rest| !rest.is_empty() && (above.is_empty() || rest.starts_with('/')))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a path has no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No store takes a key of this length.
    #[error(
        "the key would have {bytes} bytes; stores take at most {KEY_BYTES_MAX}: shorten the path"
    )]
    TooLong {
        /// Length of the key that the path asks for.
        bytes: usize,
    },
}

/// The key segment that stands for the file name `name`.
#[must_use]
pub fn segment_of_name(name: &[u8]) -> String {
    let mut segment = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(ch) = rest.chars().next() {
            let after = &rest[ch.len_utf8()..];
            if must_escape(ch) || (ch == '%' && starts_with_hex_pair(after)) {
                push_escaped(&mut segment, ch as u8);
            } else {
                segment.push(ch);
            }
            rest = after;
        }
        for &byte in chunk.invalid() {
            push_escaped(&mut segment, byte);
        }
    }
    // A literal `%` in front of an escape stays readable, since an escape begins with no hex digit.
    if segment.ends_with('.') {
        segment.pop();
        push_escaped(&mut segment, b'.');
    }
    segment
}

/// The file name that the key segment `segment` stands for. A segment that we would not have written
/// so ourselves (another tool's `%41`) stands for itself, letter by letter.
#[must_use]
pub fn name_of_segment(segment: &str) -> Vec<u8> {
    let bytes = segment.as_bytes();
    let mut name = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| hex_pair(&bytes[at + 1..])).flatten();
        match escaped {
            Some(byte) => {
                name.push(byte);
                at += 3;
            }
            None => {
                name.push(bytes[at]);
                at += 1;
            }
        }
    }
    if segment_of_name(&name) == segment { name } else { bytes.to_vec() }
}

/// The key of the path `names` (root first); of a directory's marker if `dir`.
///
/// # Errors
/// [`KeyError::TooLong`] if no store would take it.
pub fn key_of_path<'a>(
    names: impl IntoIterator<Item = &'a [u8]>,
    dir: bool,
) -> Result<Key, KeyError> {
    let mut key = String::new();
    for name in names {
        if !key.is_empty() {
            key.push('/');
        }
        key.push_str(&segment_of_name(name));
    }
    if dir {
        key.push('/');
    }
    match key.len() {
        bytes if bytes > KEY_BYTES_MAX => Err(KeyError::TooLong { bytes }),
        _ => Ok(Key(key)),
    }
}

/// Whether `key` stands for the path `names`, be it in our spelling or in another tool's.
pub fn key_names_path<'a>(key: &Key, names: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut segments = key.as_str().trim_end_matches('/').split('/');
    names.into_iter().all(|name| segments.next().is_some_and(|s| name_of_segment(s) == name))
        && segments.next().is_none()
}

fn must_escape(ch: char) -> bool {
    ch.is_ascii_control() || ch == '\\'
}

fn starts_with_hex_pair(text: &str) -> bool {
    hex_pair(text.as_bytes()).is_some()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    Some(digit(*bytes.first()?)? << 4 | digit(*bytes.get(1)?)?)
}

fn push_escaped(segment: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    segment.push('%');
    segment.push(DIGITS[usize::from(byte >> 4)] as char);
    segment.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_below_directories_and_not_below_itself() {
        let is_below = |key: &str, above: &str| Key::from_raw(key).is_below(&Key::from_raw(above));
        for above in ["", "d", "d/"] {
            assert!(is_below("d/e", above) && is_below("d/e/", above), "{above}");
        }
        assert!(is_below("d/", "") && is_below("a", ""));
        for (key, above) in [("d/", "d"), ("d", "d/"), ("d", "d"), ("de", "d"), ("d", "d/e")] {
            assert!(!is_below(key, above), "{key} below {above}");
        }
    }

    #[test]
    fn ordinary_names_stand_as_they_are() {
        for name in ["a b.txt", "100%.txt", "50%_#1?.tif", "Käse ~*.jpg", "%zz", "%a", "x%"] {
            assert_eq!(segment_of_name(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_stores_forbid_is_escaped() {
        let cases: [(&[u8], &str); 6] = [
            (b"a\\b", "a%5Cb"),
            (b"tab\there", "tab%09here"),
            (b"dot.", "dot%2E"),
            (b"latin\xe9", "latin%E9"),
            (b"%5C", "%255C"),
            (b"..", ".%2E"),
        ];
        for (name, segment) in cases {
            assert_eq!(segment_of_name(name), segment);
            assert_eq!(name_of_segment(segment), name);
        }
    }

    #[test]
    fn another_tools_spelling_stands_for_itself() {
        for foreign in ["%41", "%C3%A9", "a%2Eb"] {
            assert_eq!(name_of_segment(foreign), foreign.as_bytes());
        }
    }

    #[test]
    fn a_key_that_no_store_takes_is_an_error() {
        let name = [b'x'; 255];
        let path = [&name[..]; 5];
        assert_eq!(key_of_path(path, false), Err(KeyError::TooLong { bytes: 5 * 255 + 4 }));
    }

    proptest! {
        #[test]
        fn a_name_survives_the_way_to_the_key_and_back(
            name in prop::collection::vec(prop_oneof![
                Just(b'%'), Just(b'\\'), Just(b'.'), b'0'..=b'9', b'A'..=b'F', 1u8..=255
            ], 1..40).prop_filter("no slash", |n| !n.contains(&b'/'))
        ) {
            let segment = segment_of_name(&name);
            prop_assert!(!segment.contains(['\\', '/']) && !segment.ends_with('.'));
            prop_assert!(!segment.chars().any(char::is_control) || segment.chars().all(|c| !c.is_ascii_control()));
            prop_assert_eq!(name_of_segment(&segment), name);
        }
    }
}
