//! When both sides changed a file: pure.

/// The name under which the local version goes on: the extension stays, and it fits.
pub(super) fn conflict_name(name: &[u8], gateway: &str, stamp: &str) -> Vec<u8> {
    const NAME_BYTES_MAX: usize = 255;
    let dot = name.iter().rposition(|&b| b == b'.').filter(|&at| at > 0 && name.len() - at <= 16);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mark = format!(" (conflict {gateway} {stamp})");
    let stem = &stem[..stem.len().min(NAME_BYTES_MAX - mark.len() - extension.len())];
    [stem, mark.as_bytes(), extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflicting_version_keeps_its_extension_and_fits() {
        let named = |name: &[u8]| String::from_utf8(conflict_name(name, "gw1", "T")).unwrap();
        assert_eq!(named(b"scan.dcm"), "scan (conflict gw1 T).dcm");
        assert_eq!(named(b".profile"), ".profile (conflict gw1 T)");
        assert_eq!(conflict_name(&[b'x'; 255], "gw1", "T").len(), 255);
    }
}
