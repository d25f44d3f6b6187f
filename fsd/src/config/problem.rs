//! What may be wrong with a configuration, and how it is shown: place, value, remedy.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use policies::bucket::RateError;
use policies::schedule::ScheduleProblem;
use policies::search::SearchError;
use policies::sides::WordError;
use policies::units::{UnitError, show_bytes, show_duration};
use policies::when::WhenError;
use toml::de::{DeTable, DeValue};

use super::{
    BATCH_MAX, DISK_BYTES_LEAST, EVENT_COUNT_RANGE, FSYNC_WAIT_MAX, HOOKS_MAX, OFFLINE_WAIT_MAX,
    PROGRAMS_RANGE, RECEIPT_FILES_MAX, SHARES_MAX, SINKS_MAX, UPLOAD_DELAY_MAX, WEIGHT_MAX,
};
use crate::remote::UrlError;
use crate::sinks::TargetError;

/// What is wrong with one value.
#[derive(Debug, thiserror::Error)]
#[error("{key} is {value:?}: {kind}")]
pub struct Problem {
    /// Where it stands: `share.0.mount`, counted from zero.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// What is wrong.
    #[source]
    pub kind: ProblemKind,
}

/// What may be wrong with a value. The message says what would be right.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ProblemKind {
    #[error(transparent)]
    Unit(#[from] UnitError),
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error(transparent)]
    Word(#[from] WordError),
    #[error(transparent)]
    Schedule(#[from] ScheduleProblem),
    #[error("the smallest useful cache is {}", show_bytes(DISK_BYTES_LEAST))]
    CacheTooSmall,
    #[error("a mark is 1 to 99 percent of the cache")]
    Mark,
    #[error("the low mark must be below the high one, which is {high}")]
    MarksCross { high: u8 },
    #[error("this machine has no user of this name; a number is taken as it is")]
    NoSuchUser,
    #[error("the longest delay is {}", show_duration(UPLOAD_DELAY_MAX))]
    DelayTooLong,
    #[error("this is at least {} and at most {}", show_duration(*least), show_duration(*most))]
    Interval { least: Duration, most: Duration },
    #[error("the path must be absolute, without `..`")]
    NotAbsolute,
    #[error("the path must be below the root directory")]
    RootDir,
    #[error("the path must not be inside {outer_key} ({})", outer.display())]
    PathInside { outer_key: String, outer: PathBuf },
    #[error("{other_key} is the same; each share needs its own")]
    Taken { other_key: String },
    #[error(
        "a name is 1 to 64 letters, digits, `-`, `_` and `.`, and starts with a letter or digit"
    )]
    Name,
    #[error("the pace is said in a word or in a section of its own, not both")]
    TwoPaces,
    #[error("receipts are kept in 2 to {RECEIPT_FILES_MAX} files")]
    ReceiptFiles,
    #[error("it must be one of local, uploaded")]
    Fsync,
    #[error("the longest wait is {}", show_duration(FSYNC_WAIT_MAX))]
    FsyncWaitTooLong,
    #[error("it must be one of fail, wait")]
    OfflineReads,
    #[error("the longest wait is {}", show_duration(OFFLINE_WAIT_MAX))]
    OfflineWaitTooLong,
    #[error("a weight is a number from 1 to {WEIGHT_MAX}")]
    Weight,
    #[error("a gateway needs a share: add [[share]] with `name`, `mount` and `url`")]
    NoShare,
    #[error("a gateway has at most {SHARES_MAX} shares")]
    TooManyShares,
    #[error("a gateway has at most {HOOKS_MAX} hooks")]
    TooManyHooks,
    #[error("say where its files go: a `url`, or `local = true` if they stay here")]
    NoStore,
    #[error("a share has a `url` or is `local = true`, not both")]
    TwoStores,
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("no share has this name; there is {known}")]
    NoSuchShare { known: String },
    #[error("a hook needs a share whose files it sees; leave `shares` out for all")]
    NoHookShares,
    #[error("results go to a folder or to a share, not both")]
    TwoResults,
    #[error("the share can't be written to; results need one that is not `read_only`")]
    ResultsReadOnly,
    #[error(
        "the hook sees files of the local share {local:?}, and what is derived from them would leave with this share; \
         name a local share here, or leave {local:?} out of the hook's `shares`"
    )]
    ResultsLeave { local: String },
    #[error(
        "originals go to a `local` share that can be written to and whose files the hook does not see"
    )]
    Originals,
    #[error(
        "files move to a share that can be written to and whose files the hook does not see, from shares that can be \
         written to; and from a `local` one only to a `local` one"
    )]
    Route,
    #[error("`route_if` and `route_share` need each other: which files move, and where to")]
    HalfARoute,
    #[error(transparent)]
    Condition(#[from] SearchError),
    #[error("{} to {} events can be kept", EVENT_COUNT_RANGE.start(), EVENT_COUNT_RANGE.end())]
    EventCount,
    #[error("{} to {} programs can run at a time", PROGRAMS_RANGE.start(), PROGRAMS_RANGE.end())]
    Programs,
    #[error("a media type is written \"image/png\", or \"image/*\" for all images")]
    MediaType,
    #[error(transparent)]
    When(#[from] WhenError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("a gateway has at most {SINKS_MAX} sinks")]
    TooManySinks,
    #[error("this is for {of}; leave it out")]
    NotOfThisSink { of: &'static str },
    #[error("a request has 1 to {BATCH_MAX} events")]
    Batch,
    #[error("it is less than size_min: the hook would see nothing")]
    NoSize,
    #[error("a folder is a relative path without `.` and `..`")]
    ResultsFolder,
    #[error("no glob can be read from it: {0}")]
    Glob(#[source] globset::Error),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that can't be.
    #[error("{name} has {} mistake{}", .mistakes.len(), if .mistakes.len() == 1 { "" } else { "s" })]
    Mistakes {
        /// The file.
        name: String,
        /// The places and what is wrong there, in the order of the file; at least one.
        mistakes: Vec<Mistake>,
    },
}

/// A place in a file, and what is wrong there. Shown by [`ConfigError::report`].
#[derive(Debug, thiserror::Error)]
#[error("{says}")]
pub struct Mistake {
    says: String,
    span: Range<usize>,
    text: NamedSource<String>,
}

impl Diagnostic for Mistake {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::underline(self.span.clone()))))
    }
}

impl ConfigError {
    pub(super) fn of_toml(name: &str, text: &str, error: &toml::de::Error) -> Self {
        let says = error.message().to_owned();
        Self::Mistakes {
            name: name.to_owned(),
            mistakes: vec![mistake(name, text, says, error.span())],
        }
    }

    pub(super) fn of_problems(name: &str, text: &str, problems: Vec<Problem>) -> Self {
        let document = DeTable::parse(text).ok();
        let place = |key: &str| document.as_ref().and_then(|root| span_of(root.get_ref(), key));
        let mut mistakes: Vec<_> = problems
            .into_iter()
            .map(|problem| mistake(name, text, problem.to_string(), place(&problem.key)))
            .collect();
        mistakes.sort_by_key(|mistake| mistake.span.start);
        Self::Mistakes { name: name.to_owned(), mistakes }
    }

    /// All that is wrong, with excerpts of the file, for a terminal; in colour if it shows them.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        let Self::Mistakes { mistakes, .. } = self else { return String::new() };
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(120);
        let mut report = String::new();
        for mistake in mistakes {
            // Writing to a string fails only if formatting does; the message alone is better than nothing then.
            if handler.render_report(&mut report, mistake).is_err() {
                report.push_str(&mistake.says);
                report.push('\n');
            }
        }
        report
    }
}

fn mistake(name: &str, text: &str, says: String, span: Option<Range<usize>>) -> Mistake {
    let text = NamedSource::new(name, text.to_owned()).with_language("TOML");
    Mistake { says, span: span.unwrap_or(0..0), text }
}

/// Where the value of `key` stands, or the innermost table around it if it is left out.
fn span_of(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = Some(root);
    let mut array = None;
    for part in key.split('.') {
        let by_name = table.and_then(|table: &DeTable<'_>| table.get(part));
        let by_index =
            array.and_then(|array: &toml::de::DeArray<'_>| array.get(part.parse::<usize>().ok()?));
        let Some(value) = by_name.or(by_index) else { break };
        span = Some(value.span());
        (table, array) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(inner) => (None, Some(inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => (None, None),
        };
    }
    span
}
