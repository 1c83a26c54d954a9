//! Lengths of time as Go's programs take them: `5s`, `1m30s`, `0.5s`, `100ms`.

use std::time::Duration;

/// From the longest; `m` has to come after `ms`.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads one; it cannot be negative.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, scale) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        seconds += number * scale;
        rest = &rest[unit.len()..];
        if rest.is_empty() {
            // Go's are 63 bits of nanoseconds.
            return Duration::try_from_secs_f64(seconds).ok().filter(|length| length.as_nanos() <= i64::MAX as u128);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        for (text, want) in [
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("0.5s", Some(500)),
            ("100ms", Some(100)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("5 s", None),
            ("5days", None),
            ("99999999999999999999h", None),
            ("5000000000000000h", None),
        ] {
            assert_eq!(parse(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
