//! Sizes, times and tables for people.

use std::time::Duration;

/// Bytes in powers of 1000 with up to three digits, as docker prints them.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{bytes}B"),
        (_, value) if value < 9.995 => format!("{value:.2}{}", units[unit]),
        (_, value) if value < 99.95 => format!("{value:.1}{}", units[unit]),
        (_, value) => format!("{value:.0}{}", units[unit]),
    }
}

/// How many of a thing whose name takes an s: `1 layer`, `2 layers`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A time span in its largest unit, as docker words it.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..=59 => format!("{seconds} seconds"),
        60..=119 => "About a minute".into(),
        120..=3599 => format!("{} minutes", seconds / 60),
        _ => match hours {
            0..=1 => "About an hour".into(),
            2..=47 => format!("{hours} hours"),
            48..=335 => format!("{} days", hours / 24),
            336..=1439 => format!("{} weeks", hours / 24 / 7),
            1440..=17_519 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", hours / 24 / 365),
        },
    }
}

/// Lines of columns, each as wide as its widest cell; control characters in cells are made visible.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &str| -> String {
        cell.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The beginning of a text, with an ellipsis where it was cut.
pub fn shorten(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_s() {
        assert_eq!([0, 1, 2].map(|number| count(number, "layer")), ["0 layers", "1 layer", "2 layers"]);
    }

    #[test]
    fn three_digits_are_enough() {
        for (number, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (5_430_000, "5.43MB"),
            (99_960_000, "100MB"),
            (1 << 40, "1.10TB"),
        ] {
            assert_eq!(bytes(number), want);
        }
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        assert_eq!(table(&["A", "B"], &[vec!["x\ny".into(), "1".into()]]), "A     B\nx\u{fffd}y   1\n");
    }

    #[test]
    fn spans_have_one_unit() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (119, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (200_000, "2 days"),
            (14 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), want);
        }
    }
}
