//! What a file is, by its first bytes, and where these say nothing, by its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The bytes that are looked at.
const HEAD_BYTES: usize = 8 << 10;
const UNKNOWN: &str = "application/octet-stream";

/// The media type of a file called `name`.
pub(super) fn type_of(file: &File, name: &str) -> io::Result<&'static str> {
    let mut head = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(type_of_head(&head[..filled], name))
}

fn type_of_head(head: &[u8], name: &str) -> &'static str {
    let by_name = || mime_guess::from_path(Path::new(name)).first_raw();
    infer::get(head).map(|found| found.mime_type()).or_else(by_name).unwrap_or(UNKNOWN)
}

/// Whether `media_type` is one of `wanted`: `image/png`, or `image/*` for all images. No wanted one means all.
pub(super) fn is_wanted(media_type: &str, wanted: &[String]) -> bool {
    let is_it = |wanted: &String| match wanted.strip_suffix('*') {
        Some(kind) => media_type.starts_with(kind),
        None => media_type == wanted,
    };
    wanted.is_empty() || wanted.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_a_file_is_whatever_it_is_called() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        for (head, name, expected) in [
            (&png[..], "a.txt", "image/png"),
            (b"\xff\xd8\xff\xe0", "a", "image/jpeg"),
            (b"a,b\n1,2\n", "a.csv", "text/csv"),
            (b"hello", "a.b/c", UNKNOWN),
            (b"", "", UNKNOWN),
        ] {
            assert_eq!(type_of_head(head, name), expected, "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_all_of_a_kind() {
        let wanted = ["image/*".to_owned(), "text/csv".to_owned()];
        let answers =
            ["image/png", "text/csv", "text/plain", "imagery/x"].map(|t| is_wanted(t, &wanted));
        assert_eq!(answers, [true, true, false, false]);
        assert!(is_wanted("anything/else", &[]));
    }
}
