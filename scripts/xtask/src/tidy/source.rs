//! What the rules need to know of a Rust file: its functions and the paths it names, tests left out.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A Rust file without its tests.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the work tree.
    pub(super) path: PathBuf,
    /// Lines, without those of modules and items for tests only.
    pub(super) lines_without_tests: usize,
    /// Every function with a body.
    pub(super) functions: Vec<Function>,
    /// Every path of at least two segments, with imports written out: `use a::{b, c::d}` names `a::b` and `a::c::d`.
    pub(super) paths: Vec<NamedPath>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

impl Source {
    pub(super) fn parse(path: impl AsRef<Path>, text: &str) -> anyhow::Result<Self> {
        let path = path.as_ref().to_owned();
        let stream: TokenStream = text.parse().map_err(|error| anyhow!("{error}"))?;
        let mut source =
            Self { path, lines_without_tests: 0, functions: Vec::new(), paths: Vec::new() };
        let mut tests = Vec::new();
        if !source.is_test() {
            source.scan(&stream.into_iter().collect::<Vec<_>>(), &mut tests);
            let tests: usize = tests.iter().map(|lines| lines.end() - lines.start() + 1).sum();
            source.lines_without_tests = text.lines().count().saturating_sub(tests);
        }
        Ok(source)
    }

    /// Whether the whole file is a test's.
    pub(super) fn is_test(&self) -> bool {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        let top = parts.next();
        let in_tests = parts.any(|part| part == "tests" || part == "tests.rs");
        in_tests || (top == Some("tests") && !self.path.starts_with("tests/src"))
    }

    fn scan(&mut self, tokens: &[TokenTree], tests: &mut Vec<RangeInclusive<usize>>) {
        let mut at = 0;
        while at < tokens.len() {
            if is_test_attribute(&tokens[at..]) {
                let end = item_end(tokens, at + 2);
                tests.push(line(&tokens[at])..=tokens[end].span().end().line);
                at = end + 1;
                continue;
            }
            if let Some(name) = function_name(&tokens[at..]) {
                self.note_function(name, &tokens[at..]);
            }
            if starts_path(tokens, at) {
                at = self.scan_path(tokens, at, &mut Vec::new());
                continue;
            }
            if let TokenTree::Group(group) = &tokens[at] {
                self.scan(&group.stream().into_iter().collect::<Vec<_>>(), tests);
            }
            at += 1;
        }
    }

    fn note_function(&mut self, name: String, tokens: &[TokenTree]) {
        let body = tokens.iter().find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(Some(group)),
            TokenTree::Punct(punct) if punct.as_char() == ';' => Some(None),
            TokenTree::Group(_)
            | TokenTree::Ident(_)
            | TokenTree::Punct(_)
            | TokenTree::Literal(_) => None,
        });
        if let Some(Some(body)) = body {
            let line = line(&tokens[0]);
            let lines = body.span_close().end().line - line + 1;
            self.functions.push(Function { name, line, lines });
        }
    }

    /// Reads the path or tree of paths that starts at `at`; says where it ends.
    fn scan_path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        prefix: &mut Vec<String>,
    ) -> usize {
        let depth = prefix.len();
        let start = line(&tokens[at]);
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            prefix.push(ident.to_string());
            if !is_path_separator(tokens, at + 1) {
                at += 1;
                break;
            }
            at += 3;
        }
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if at >= 2 && is_path_separator(tokens, at - 2) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for branch in
                    inner.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty())
                {
                    self.scan_path(branch, 0, prefix);
                }
                at += 1;
            }
            Some(_) | None if prefix.len() > 1 => {
                self.paths.push(NamedPath { segments: prefix.clone(), line: start });
            }
            Some(_) | None => {}
        }
        prefix.truncate(depth);
        at
    }
}

/// `#[cfg(test)]` or `#[test]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(group), ..] = tokens else { return false };
    let text = group.stream().to_string().replace(' ', "");
    is_punct(hash, '#') && matches!(text.as_str(), "cfg(test)" | "test")
}

/// The last token of the item that begins at `at`: its body, or the semicolon.
fn item_end(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    tokens[at..].iter().position(ends).map_or(tokens.len() - 1, |offset| at + offset)
}

fn function_name(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [TokenTree::Ident(word), TokenTree::Ident(name), ..] if word == "fn" => {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// A path starts at an identifier that no `::` stands before and one stands behind, or that `use` stands before.
fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens[at], TokenTree::Ident(_))
        && is_path_separator(tokens, at + 1)
        && !(at >= 2 && is_path_separator(tokens, at - 2))
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    tokens.get(at).is_some_and(|t| is_punct(t, ':'))
        && tokens.get(at + 1).is_some_and(|t| is_punct(t, ':'))
}

fn is_punct(token: &TokenTree, ch: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ch)
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::parse("fsd/src/a.rs", text).unwrap();
        source.paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn imports_are_written_out() {
        let text = "use crate::{a::b, c::{self, D}, e as f};\nuse super::g;";
        assert_eq!(
            paths(text),
            ["crate::a::b", "crate::c::self", "crate::c::D", "crate::e", "super::g"]
        );
    }

    #[test]
    fn paths_in_code_and_macros_are_found_but_not_in_text() {
        let text = "/// crate::doc\nfn f(x: crate::a::T) -> u8 { log!(\"crate::text\", y = crate::b::c(x)); crate::d::e::<u8>(1) }";
        assert_eq!(paths(text), ["crate::a::T", "crate::b::c", "crate::d::e"]);
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use crate::a::b;\n#[cfg(test)]\nmod tests { use crate::c::d; }\n#[cfg(test)]\nuse crate::e::f;\nuse crate::g::h;";
        assert_eq!(paths(text), ["crate::a::b", "crate::g::h"]);
        for path in ["fsd/src/meta/tests.rs", "fsd/src/meta/tests/tree.rs", "tests/mount/main.rs"] {
            assert!(Source::parse(path, "use crate::a::b;").unwrap().paths.is_empty(), "{path}");
        }
    }

    #[test]
    fn functions_are_measured_from_name_to_brace() {
        let text = "impl A {\n  /// Doc.\n  fn a(\n    &self,\n  ) {\n  }\n  fn none(&self);\n}\n";
        let source = Source::parse("a.rs", text).unwrap();
        assert_eq!(source.functions, [Function { name: "a".into(), line: 3, lines: 4 }]);
    }
}
