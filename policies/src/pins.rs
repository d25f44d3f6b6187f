//! What stays in the cache: paths and globs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Characters that mean something in a glob.
const SPECIAL: [char; 6] = ['*', '?', '[', ']', '{', '\\'];

/// Patterns of pinned paths, relative to the root of a share: each stands for what matches it, and for all below that. The empty one
/// stands for everything.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    patterns: Vec<String>,
    /// Two for each pattern: the path itself, and what is below.
    globs: GlobSet,
}

impl Pins {
    /// Reads the patterns: `*` and `?` stay within a name, `**` does not.
    ///
    /// # Errors
    /// If one can't be read as a glob.
    pub fn new(patterns: Vec<String>) -> Result<Self, globset::Error> {
        let mut globs = GlobSetBuilder::new();
        for pattern in &patterns {
            let below = if pattern.is_empty() { "**".to_owned() } else { format!("{pattern}/**") };
            globs.add(glob(pattern)?).add(glob(&below)?);
        }
        Ok(Self { patterns, globs: globs.build()? })
    }

    /// Whether nothing is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns, in the order in which they were given.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// The first pattern that stands for the file at `path`.
    #[must_use]
    pub fn covering(&self, path: &[Vec<u8>]) -> Option<&str> {
        let joined = path.join(&b'/');
        let found = self.globs.matches(OsStr::from_bytes(&joined));
        found.first().and_then(|at| self.patterns.get(at / 2)).map(String::as_str)
    }

    /// Whether something that is pinned may lie in the directory at `path`.
    #[must_use]
    pub fn may_cover_below(&self, path: &[Vec<u8>]) -> bool {
        self.patterns.iter().any(|pattern| leads_to(path, pattern)) || self.covering(path).is_some()
    }

    /// The directories, by their paths, below which all is that is pinned; a pinned path itself stands for itself.
    #[must_use]
    pub fn tops(&self) -> Vec<Vec<Vec<u8>>> {
        let plain = |name: &&str| !name.is_empty() && !is_pattern(name);
        let top = |pattern: &String| {
            pattern.split('/').take_while(plain).map(|name| name.as_bytes().to_vec()).collect()
        };
        self.patterns.iter().map(top).collect()
    }
}

/// Whether what matches `pattern` may lie below `path`.
fn leads_to(path: &[Vec<u8>], pattern: &str) -> bool {
    let mut wanted = pattern.split('/');
    for name in path {
        match wanted.next() {
            Some(glob) if glob.contains("**") => return true,
            Some(glob) if is_pattern(glob) || glob.as_bytes() == name => {}
            Some(_) | None => return false,
        }
    }
    wanted.next().is_some()
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// The pattern that stands for the path `path` and nothing else.
#[must_use]
pub fn literal(path: &str) -> String {
    globset::escape(path)
}

/// What the pattern of a path is called after the directory at `from` was renamed to `to`: none if it stands for another path, or for
/// what a glob matches, which is a matter of names.
#[must_use]
pub fn renamed(pattern: &str, from: &str, to: &str) -> Option<String> {
    let rest = pattern.strip_prefix(&*literal(from))?;
    let is_path = rest.is_empty() || rest.starts_with('/');
    (is_path && !has_wildcard(rest)).then(|| format!("{}{rest}", literal(to)))
}

/// Whether anything in a pattern is more than an escape of [`literal`].
fn has_wildcard(pattern: &str) -> bool {
    let mut plain = pattern.to_owned();
    for special in ['?', '*', '[', ']', '{', '}', '!'] {
        plain = plain.replace(&format!("[{special}]"), "");
    }
    is_pattern(&plain)
}

/// Whether `text` is a pattern rather than a path.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(SPECIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/')
            .filter(|name| !name.is_empty())
            .map(|name| name.as_bytes().to_vec())
            .collect()
    }

    fn pins(patterns: &[&str]) -> Pins {
        Pins::new(patterns.iter().map(|&pattern| pattern.to_owned()).collect()).unwrap()
    }

    #[test]
    fn a_pattern_stands_for_what_it_matches_and_all_below() {
        let pins = pins(&["scans/2026", "raw/*.dcm", "models/**/best.onnx"]);
        for (at, pattern) in [
            ("scans/2026", Some("scans/2026")),
            ("scans/2026/a/b", Some("scans/2026")),
            ("scans/2025/a", None),
            ("scans/20261", None),
            ("raw/a.dcm", Some("raw/*.dcm")),
            ("raw/a/b.dcm", None),
            ("models/x/y/best.onnx", Some("models/**/best.onnx")),
            ("models/best.onnx", Some("models/**/best.onnx")),
            ("", None),
        ] {
            assert_eq!(pins.covering(&path(at)), pattern, "{at}");
        }
        for (at, may) in
            [("", true), ("scans", true), ("scans/2026/x", true), ("raw", true), ("raw/x", false)]
        {
            assert_eq!(pins.may_cover_below(&path(at)), may, "{at}");
        }
        let pins = self::pins(&["scans/2026", "raw/*.dcm"]);
        for at in ["other", "scans/2025", "other/x"] {
            assert!(!pins.may_cover_below(&path(at)), "{at}");
        }
        assert_eq!(pins.tops(), [path("scans/2026"), path("raw")]);
        let deep = self::pins(&["models/**/best.onnx"]);
        assert!(deep.may_cover_below(&path("models/x/y")) && !deep.may_cover_below(&path("raw")));
        assert!(self::pins(&[""]).covering(&path("any/thing")).is_some());
    }

    #[test]
    fn a_path_with_special_characters_stands_for_itself() {
        let name = "a[1]*{x}?";
        let pins = pins(&[&literal(name)]);
        assert!(is_pattern(name) && pins.covering(&path(name)).is_some());
        assert!(pins.covering(&path("a1x{x}y")).is_none());
    }

    #[test]
    fn the_pin_of_a_path_follows_a_renamed_directory_and_that_of_a_glob_does_not() {
        for (pattern, moved) in [
            ("a/b", Some("x/y")),
            ("a/b/c/d.txt", Some("x/y/c/d.txt")),
            ("a/b/[*]1", Some("x/y/[*]1")),
            ("a", None),
            ("a/bc", None),
            ("a/b/*.txt", None),
            ("", None),
        ] {
            assert_eq!(renamed(pattern, "a/b", "x/y").as_deref(), moved, "{pattern}");
        }
        assert_eq!(renamed(&literal("q[1]/z"), "q[1]", "{}").as_deref(), Some("[{][}]/z"));
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        assert!(Pins::new(vec!["a[".to_owned()]).is_err());
    }
}
