//! When both sides changed a file: pure.

/// Why a local version can't go on under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The cloud has another version.
    Conflict,
    /// Part of it was never fetched, and is in the cloud no more.
    Incomplete,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The name under which the local version goes on: the extension stays, and it fits.
pub(super) fn name_aside(name: &[u8], why: Why, gateway: &str, stamp: &str) -> Vec<u8> {
    const NAME_BYTES_MAX: usize = 255;
    let dot = name.iter().rposition(|&b| b == b'.').filter(|&at| at > 0 && name.len() - at <= 16);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mark = format!(" ({} {gateway} {stamp})", why.word());
    let stem = &stem[..stem.len().min(NAME_BYTES_MAX - mark.len() - extension.len())];
    [stem, mark.as_bytes(), extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflicting_version_keeps_its_extension_and_fits() {
        let named =
            |name: &[u8]| String::from_utf8(name_aside(name, Why::Conflict, "gw1", "T")).unwrap();
        assert_eq!(named(b"scan.dcm"), "scan (conflict gw1 T).dcm");
        assert_eq!(named(b".profile"), ".profile (conflict gw1 T)");
        assert_eq!(name_aside(&[b'x'; 255], Why::Incomplete, "gw1", "T").len(), 255);
    }
}
