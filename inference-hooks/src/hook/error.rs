//! What can be wrong with a hook folder, told to the person who wrote it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::source::{FILE_BYTES_MAX, FILES_MAX};

/// Why a folder is not a usable hook.
#[derive(Debug, Error)]
pub enum HookError {
    /// The disk said no.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("`{}` has a name that is not UTF-8; rename it", path.display())]
    FileName {
        /// The file.
        path: PathBuf,
    },
    /// A folder, socket or device inside a hook folder.
    #[error("`{}` is not a plain file; a hook folder is flat and holds files only", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// A file beyond the limit.
    #[error("`{}` is larger than the {FILE_BYTES_MAX} bytes a hook's file may have", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder beyond the limit.
    #[error("`{}` holds more than {FILES_MAX} files; is it a hook folder?", folder.display())]
    TooManyFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// No `hook.toml`.
    #[error("there is no `hook.toml` in the hook folder")]
    NoHookFile,
    /// A TOML or WGSL file that is not UTF-8.
    #[error("`{file}` is not UTF-8 text")]
    NotText {
        /// The file.
        file: String,
    },
    /// A value in a file of the folder cannot be used.
    #[error(transparent)]
    Value(#[from] Box<ValueError>),
}

/// A wrong value: where it stands, what it is, what is wrong with it and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// The file in the hook folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key with its tables, `pass[0].entry`; empty if the text is no TOML at all.
    pub key: String,
    /// The value as it is written.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl std::error::Error for ValueError {}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, value, problem, remedy } = self;
        write!(f, "{file}:{line}: ")?;
        if !key.is_empty() {
            write!(f, "{key} = {value} ")?;
        }
        write!(f, "{problem}")?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "; {remedy}") }
    }
}

/// A TOML file under reading, which knows how to point into itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

/// Longest excerpt of a value in an error.
const EXCERPT_CHARS_MAX: usize = 60;

impl Document<'_> {
    /// The error for the value at `span`.
    pub(super) fn error(
        &self,
        span: Range<usize>,
        key: impl Into<String>,
        problem: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> HookError {
        let value = self.text.get(span.clone()).unwrap_or_default();
        let value = value.lines().next().unwrap_or_default();
        HookError::Value(Box::new(ValueError {
            file: self.file.to_owned(),
            line: self.line(span.start),
            key: key.into(),
            value: value.chars().take(EXCERPT_CHARS_MAX).collect(),
            problem: problem.to_string(),
            remedy: remedy.to_string(),
        }))
    }

    /// The error of the TOML parser, which names keys and types itself.
    pub(super) fn parse_error(&self, error: &toml::de::Error) -> HookError {
        let start = error.span().map_or(0, |span| span.start);
        let line = self.text.lines().nth(self.line(start) - 1).unwrap_or_default().trim();
        let excerpt: String = line.chars().take(EXCERPT_CHARS_MAX).collect();
        let problem = error.message().to_owned();
        HookError::Value(Box::new(ValueError {
            file: self.file.to_owned(),
            line: self.line(start),
            key: String::new(),
            value: String::new(),
            problem,
            remedy: if excerpt.is_empty() { excerpt } else { format!("the line is `{excerpt}`") },
        }))
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}
