//! The names of what is put aside: when both sides changed a file, or when another version took its place.

use super::NAME_BYTES_MAX;

/// Why a local version can't go on under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The cloud has another version.
    Conflict,
    /// Part of it was never fetched, and is in the cloud no more.
    Incomplete,
}

const ALL: [Why; 2] = [Why::Conflict, Why::Incomplete];

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The name under which the local version goes on: the extension stays, and it fits.
#[must_use]
pub fn name_aside(name: &[u8], why: Why, gateway: &str, stamp: &str) -> Vec<u8> {
    marked(name, &format!("{} {gateway} {stamp}", why.word()))
}

/// `name` with `mark` in it: the extension stays, and it fits.
#[must_use]
pub fn marked(name: &[u8], mark: &str) -> Vec<u8> {
    let dot = name.iter().rposition(|&b| b == b'.').filter(|&at| at > 0 && name.len() - at <= 16);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mark = format!(" ({mark})");
    let stem = &stem[..stem.len().min(NAME_BYTES_MAX - mark.len() - extension.len())];
    [stem, mark.as_bytes(), extension].concat()
}

/// The name under which version `content` of file `ino` is written before it gets its own.
#[must_use]
pub fn part(ino: u64, content: u64) -> Vec<u8> {
    format!("{PART}{ino}-{content}").into_bytes()
}

/// Whether `name` is one of [`part`].
#[must_use]
pub fn is_part(name: &[u8]) -> bool {
    let numbers = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(PART));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(ino, content)| is_number(ino) && is_number(content))
}

const PART: &str = ".fsd-original-";

/// A moment in a name, from seconds since 1970: `20260214T093000Z`.
#[must_use]
pub fn stamp(secs: i64) -> String {
    let stamp = jiff::Timestamp::new(secs, 0).map(|t| t.strftime("%Y%m%dT%H%M%SZ").to_string());
    stamp.unwrap_or_else(|_| secs.to_string())
}

/// Whether `name` is one that a local version goes on under.
#[must_use]
pub fn is_aside(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let Some(mark) = name.rsplit_once(')').and_then(|(before, _)| before.rsplit_once(" (")) else {
        return false;
    };
    let words: Vec<&str> = mark.1.split(' ').collect();
    matches!(words[..], [why, _, _] if ALL.iter().any(|known| known.word() == why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflicting_version_keeps_its_extension_and_fits() {
        let named =
            |name: &[u8]| String::from_utf8(name_aside(name, Why::Conflict, "gw1", "T")).unwrap();
        assert_eq!(marked(b"a.b.jpg", "T 2"), b"a.b (T 2).jpg");
        assert_eq!(stamp(1_771_061_400), "20260214T093000Z");
        assert_eq!(named(b"scan.dcm"), "scan (conflict gw1 T).dcm");
        assert_eq!(named(b".profile"), ".profile (conflict gw1 T)");
        assert_eq!(name_aside(&[b'x'; 255], Why::Incomplete, "gw1", "T").len(), 255);
        assert!(is_aside(b"scan (conflict gw1 T).dcm") && is_aside(b"a (incomplete g T)"));
        assert!(
            !is_aside(b"scan (conflict).dcm") && !is_aside(b"a (copy of b)") && !is_aside(b")")
        );
    }
}
