//! Signals by name or number, as `kill` takes them.

const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
const FIRST_REAL_TIME: i32 = 34;
const LAST: i32 = 64;

const TERM: i32 = 15;

/// The number of a signal: `9`, `KILL`, `sigkill`, `RTMIN+1`; nothing means SIGTERM. Any number is one: the kernel knows which it has.
pub fn parse(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(TERM);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match (name, name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        ("RTMIN", _, _) => FIRST_REAL_TIME,
        ("RTMAX", _, _) => LAST,
        (_, Some(more), _) => FIRST_REAL_TIME.checked_add(more.parse().ok()?)?,
        (_, _, Some(less)) => LAST.checked_sub(less.parse().ok()?)?,
        _ => return None,
    };
    (FIRST_REAL_TIME..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("sigusr1", Some(10)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", Some(0)),
            ("65", Some(65)),
            ("-1", Some(-1)),
            ("9999999999", Some(i32::MAX)),
            ("NOPE", None),
            ("RTMIN+99", None),
            ("SIG", None),
            ("", Some(15)),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
