//! Times of rows: read as nanoseconds since 1970, written back the way they came.

#[cfg(feature = "gpu")]
use std::ops::Range;

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::Cell;

/// No row has this time.
const NONE: i64 = i64::MIN;
const SECOND_NANOS: i128 = 1_000_000_000;

/// How a time column is written; its first readable time decides.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    /// A number of such units, each so many nanoseconds.
    Epoch { unit_nanos: i64 },
    /// A date and a time of day, at an offset from UTC if it names one.
    Text { separator: char, offset: Option<Offset> },
}

/// Collects the times of rows.
#[derive(Debug, Default)]
pub(super) struct TimeReader {
    style: Option<Style>,
    nanos: Vec<i64>,
}

/// The times of all rows, none before the one above it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    style: Style,
    nanos: Vec<i64>,
}

impl TimeReader {
    pub(super) fn row(&mut self) {
        self.nanos.push(NONE);
    }

    /// Sets the time of the last row, if the cell is one.
    pub(super) fn set(&mut self, cell: Cell<'_>) {
        let found = match cell {
            Cell::Missing | Cell::Other => None,
            Cell::Instant(nanos) => {
                Some((nanos, Style::Text { separator: 'T', offset: Some(Offset::UTC) }))
            }
            Cell::Integer(number) => self.number(&number.to_string()),
            Cell::Number(number) => self.number(&number.to_string()),
            Cell::Text(text) => self.number(text.trim()).or_else(|| date(text.trim())),
        };
        let Some((nanos, style)) = found else { return };
        let Some(nanos) = i64::try_from(nanos).ok().filter(|nanos| *nanos != NONE) else { return };
        self.style.get_or_insert(style);
        if let Some(last) = self.nanos.last_mut() {
            *last = nanos;
        }
    }

    /// A number of seconds, milliseconds, microseconds or nanoseconds: which of them, the size of the first tells.
    fn number(&self, text: &str) -> Option<(i128, Style)> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let unit_nanos = match self.style {
            Some(Style::Epoch { unit_nanos }) => unit_nanos,
            Some(Style::Text { .. }) | None => match whole.unsigned_abs() {
                0..100_000_000_000 => 1_000_000_000,
                100_000_000_000..100_000_000_000_000 => 1_000_000,
                100_000_000_000_000..100_000_000_000_000_000 => 1_000,
                100_000_000_000_000_000.. => 1,
            },
        };
        let fraction = format!("{fraction:0<9.9}").parse::<i128>().ok()?;
        let fraction = fraction * i128::from(unit_nanos) / SECOND_NANOS;
        let fraction = if text.starts_with('-') { -fraction } else { fraction };
        let nanos = i128::from(whole) * i128::from(unit_nanos) + fraction;
        Some((nanos, Style::Epoch { unit_nanos }))
    }
}

/// RFC 3339, or ISO 8601 without an offset, which counts as UTC.
fn date(text: &str) -> Option<(i128, Style)> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset();
    let moment = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let moment = offset.unwrap_or(Offset::UTC).to_timestamp(moment).ok()?;
    let separator = if text.as_bytes().get(10) == Some(&b' ') { ' ' } else { 'T' };
    Some((moment.as_nanosecond(), Style::Text { separator, offset }))
}

impl Times {
    /// The times in order, and which row each is of; none if there is no time at all.
    pub(super) fn sorted(reader: TimeReader) -> Option<(Self, Vec<usize>)> {
        let style = reader.style?;
        let timed = |row: &usize| reader.nanos[*row] != NONE;
        let mut order: Vec<_> = (0..reader.nanos.len()).filter(timed).collect();
        order.sort_by_key(|row| reader.nanos[*row]);
        let nanos = order.iter().map(|row| reader.nanos[*row]).collect();
        Some((Self { style, nanos }, order))
    }

    /// Seconds from the first row to each. The difference is taken of whole nanoseconds: 32 bits would round
    /// the times themselves to minutes.
    pub(super) fn seconds(&self) -> Vec<f32> {
        let first = self.nanos.first().copied().unwrap_or_default();
        self.nanos.iter().map(|nanos| seconds_between(first, *nanos)).collect()
    }

    pub(super) fn last_second(&self) -> f32 {
        span_of(&self.nanos)
    }

    /// Seconds from the first to the last of some rows.
    #[cfg(feature = "gpu")]
    pub(super) fn seconds_of(&self, rows: Range<usize>) -> f32 {
        span_of(self.nanos.get(rows).unwrap_or_default())
    }

    /// The times of some rows.
    #[cfg(feature = "gpu")]
    pub(super) fn with_rows(&self, rows: Range<usize>) -> Self {
        let nanos = self.nanos.get(rows).unwrap_or_default().to_vec();
        Self { style: self.style, nanos }
    }

    /// A row's time as the file writes times.
    pub(super) fn text(&self, row: usize) -> Option<String> {
        let nanos = i128::from(*self.nanos.get(row)?);
        match self.style {
            Style::Epoch { unit_nanos } => Some(decimal(nanos, i128::from(unit_nanos))),
            Style::Text { separator, offset } => {
                let moment = Timestamp::from_nanosecond(nanos).ok()?;
                let local: DateTime = offset.unwrap_or(Offset::UTC).to_datetime(moment);
                let local = local.to_string().replace('T', &separator.to_string());
                Some(format!("{local}{}", offset.map(offset_text).unwrap_or_default()))
            }
        }
    }

    /// Whether [`Times::text`] gives numbers.
    pub(super) fn are_numbers(&self) -> bool {
        matches!(self.style, Style::Epoch { .. })
    }
}

fn span_of(nanos: &[i64]) -> f32 {
    let [first, .., last] = nanos else { return 0.0 };
    seconds_between(*first, *last)
}

fn seconds_between(first: i64, nanos: i64) -> f32 {
    let between = SignedDuration::from_nanos_i128(i128::from(nanos) - i128::from(first));
    #[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
    let seconds = between.as_secs_f64() as f32;
    seconds
}

fn offset_text(offset: Offset) -> String {
    if offset == Offset::UTC {
        return "Z".to_owned();
    }
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// `nanos` in a unit of so many of them, as a decimal number.
fn decimal(nanos: i128, unit: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, rest) = (nanos.abs() / unit, nanos.abs() % unit);
    let fraction = format!("{:09}", rest * SECOND_NANOS / unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}
