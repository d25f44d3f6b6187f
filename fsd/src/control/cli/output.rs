//! Data on stdout.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use policies::units::{show_bytes, show_duration};
use serde::Serialize;

use super::{Failure, Outcome};

/// Prints `text`. A reader that went away has seen enough.
pub(super) fn print(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("write to stdout").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints `value` as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    let json = serde_json::to_string_pretty(value).context("write JSON").map_err(Failure::from)?;
    print(&format!("{json}\n"))
}

/// A cell that is longer does not make its column wider.
const COLUMN_CHARS_MAX: usize = 60;

/// Columns as wide as they need to be, with a line of names above; nothing if there are no rows. What would move the cursor is
/// written as an escape: names of files may hold anything.
pub(super) fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let names = names.map(str::to_uppercase);
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let all = || std::iter::once(&names).chain(&rows);
    let length = |cell: &String| cell.chars().count().min(COLUMN_CHARS_MAX);
    let width = |column: usize| all().map(|row| length(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn printable(cell: &str) -> String {
    let escaped = |ch: char| match ch.is_control() {
        true => ch.escape_default().to_string(),
        false => ch.to_string(),
    };
    cell.chars().map(escaped).collect()
}

/// One line `name  text`, as in a list of facts.
pub(super) fn fact(text: &mut String, name: &str, fact: &str) {
    let _ = writeln!(text, "{name:<8}{fact}"); // a string takes whatever is written
}

/// `3m ago`; clocks that disagree are no reason to fail.
pub(super) fn ago(then: Timestamp) -> String {
    let elapsed = Timestamp::now().duration_since(then);
    format!("{} ago", show_duration(elapsed.try_into().unwrap_or_default()))
}

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `5 items, 1.5 GiB`.
pub(super) fn amount(items: u64, bytes: u64) -> String {
    format!("{}, {}", count(items, "item"), show_bytes(bytes))
}

/// A bar of bytes on stderr, with room for a message; nothing if that is no terminal.
pub(super) fn bytes_bar() -> ProgressBar {
    bar("{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {msg}")
}

/// The same, of things that are counted.
pub(super) fn count_bar() -> ProgressBar {
    bar("{bar:30} {human_pos} of {human_len} {msg}")
}

fn bar(template: &str) -> ProgressBar {
    let target = match stderr_is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether what is said on stderr may be in colour: a terminal, and nobody who asked for none.
pub(super) fn stderr_shows_colour() -> bool {
    stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [["a", "long text"], ["größer", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["x", "y"], &rows), "X       Y\na       long text\ngrößer\n");
        assert_eq!(table(["x"], &[]), "");
        let long = "long".repeat(20);
        let rows = [[&long, "a\nb\u{1b}"], ["a", "c"]].map(|row: [&str; 2]| row.map(str::to_owned));
        let text = table(["x", "y"], &rows);
        let last = format!("{:60}  c", "a");
        assert_eq!(text.lines().nth(1), Some(&*format!("{long}  a\\nb\\u{{1b}}")));
        assert_eq!(text.lines().last(), Some(&*last));
    }
}
