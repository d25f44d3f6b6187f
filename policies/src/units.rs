//! Amounts as people write them: sizes (`64GiB`, `1.5 MB`) and durations (`30s`, `5m`).

use std::time::Duration;

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
    ("PB", 1_000_000_000_000_000),
    ("PiB", 1 << 50),
];

const NANOSECOND_UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60 * 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// Why a text is no amount. The message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not start with a number.
    #[error("a number and a unit are needed, such as {example}")]
    NoNumber {
        /// A text that would do.
        example: &'static str,
    },
    /// The unit is missing or none that is known.
    #[error("{}; use one of {allowed}", if unit.is_empty() { "the unit is missing".into() } else { format!("{unit:?} is no unit here") })]
    Unit {
        /// The unit as written; empty if there is none.
        unit: String,
        /// The units that would do.
        allowed: String,
    },
    /// The amount does not fit.
    #[error("the number is too large")]
    TooLarge,
}

/// The number of bytes that `text` says. A fraction of a byte is dropped.
///
/// # Errors
/// [`UnitError`] if it is not a number with a unit of bytes.
///
/// ```
/// assert_eq!(policies::units::parse_bytes("64GiB"), Ok(64 << 30));
/// assert_eq!(policies::units::parse_bytes("1.5 MB"), Ok(1_500_000));
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    parse_scaled(text, BYTE_UNITS, "64GiB")
}

/// The duration that `text` says.
///
/// # Errors
/// [`UnitError`] if it is not a number with a unit of time.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(policies::units::parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse_scaled(text, NANOSECOND_UNITS, "30s").map(Duration::from_nanos)
}

/// `bytes` as a person reads them best: `1.5 GiB`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let units = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `duration` as a person reads it best: `1h 5m`, `30s`, `500ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |major: u64, a: &str, minor: u64, b: &str| match minor {
        0 => format!("{major}{a}"),
        _ => format!("{major}{a} {minor}{b}"),
    };
    match seconds {
        0 => format!("{}ms", duration.subsec_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        86_400.. => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A decimal number followed by one of `units`, as a whole number of the smallest unit's parts.
pub(crate) fn parse_scaled(
    text: &str,
    units: &[(&str, u64)],
    example: &'static str,
) -> Result<u64, UnitError> {
    let text = text.trim();
    let unit_at = text.find(|ch: char| !ch.is_ascii_digit() && ch != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (digits, decimals) = decimal(number).ok_or(UnitError::NoNumber { example })?;
    let unit = unit.trim_start();
    let scale = units
        .iter()
        .find(|(name, _)| *name == unit)
        .or_else(|| units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)))
        .map(|&(_, scale)| u128::from(scale))
        .ok_or_else(|| UnitError::Unit { unit: unit.to_owned(), allowed: names(units) })?;
    let scaled = digits.checked_mul(scale).ok_or(UnitError::TooLarge)?;
    u64::try_from(scaled / 10u128.pow(decimals)).map_err(|_| UnitError::TooLarge)
}

/// The digits of a decimal number, and how many of them stand behind the point.
fn decimal(text: &str) -> Option<(u128, u32)> {
    const DIGITS_MAX: usize = 25;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let fits = !whole.is_empty() && digits.len() <= DIGITS_MAX && !fraction.contains('.');
    let decimals = u32::try_from(fraction.len()).ok()?;
    fits.then(|| digits.parse().ok()).flatten().map(|digits| (digits, decimals))
}

fn names(units: &[(&str, u64)]) -> String {
    units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        let cases = [
            ("0B", 0),
            ("17 B", 17),
            ("4kB", 4_000),
            ("4KiB", 4_096),
            ("1.5MB", 1_500_000),
            ("64gib", 64 << 30),
            (" 2 TiB ", 2 << 40),
            ("0.1KiB", 102),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_written() {
        let cases = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("5min", 300_000)];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
    }

    #[test]
    fn an_error_says_what_is_allowed() {
        let message = |text| parse_bytes(text).unwrap_err().to_string();
        assert_eq!(message("lots"), "a number and a unit are needed, such as 64GiB");
        assert_eq!(message("-1GiB"), "a number and a unit are needed, such as 64GiB");
        assert_eq!(message("1.2.3GiB"), "a number and a unit are needed, such as 64GiB");
        assert!(message("64").starts_with("the unit is missing; use one of B, kB, KiB"));
        assert!(message("64 parsecs").starts_with("\"parsecs\" is no unit here; use one of B"));
        assert_eq!(message("99999999PiB"), "the number is too large");
        assert!(parse_duration("5 GiB").unwrap_err().to_string().contains("ms, s, min, m, h, d"));
    }

    #[test]
    fn amounts_are_shown_for_people() {
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_bytes(1_023), "1023 B");
        assert_eq!(show_bytes(1_536), "1.5 KiB");
        assert_eq!(show_bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(show_duration(Duration::from_millis(20)), "20ms");
        assert_eq!(show_duration(Duration::from_secs(59)), "59s");
        assert_eq!(show_duration(Duration::from_secs(3_600 + 300)), "1h 5m");
        assert_eq!(show_duration(Duration::from_secs(86_400)), "1d");
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in ".{0,40}") {
            let _ = parse_bytes(&text);
            let _ = parse_duration(&text);
        }

        #[test]
        fn whole_bytes_come_back(bytes: u64) {
            prop_assert_eq!(parse_bytes(&format!("{bytes}B")), Ok(bytes));
        }
    }
}
