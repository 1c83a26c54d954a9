//! Names of signals.

const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The C library keeps two of the kernel's real-time signals for itself.
const FIRST_REAL_TIME: u8 = 34;
const LAST_REAL_TIME: u8 = 64;

/// The signal that `text` names: `TERM`, `SIGTERM`, `15`, `RTMIN+3`; case does not matter. `None` if there is no such signal.
pub fn signal_number(text: &str) -> Option<u8> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Some(index as u8 + 1);
    }
    let number = match (name, name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        ("RTMIN", ..) => Some(FIRST_REAL_TIME),
        ("RTMAX", ..) => Some(LAST_REAL_TIME),
        (_, Some(plus), _) => plus.parse().ok().and_then(|plus| FIRST_REAL_TIME.checked_add(plus)),
        (_, _, Some(minus)) => {
            let number: Option<u8> = minus.parse().ok().and_then(|minus| LAST_REAL_TIME.checked_sub(minus));
            number.filter(|number| *number >= FIRST_REAL_TIME)
        }
        (digits, None, None) => digits.parse().ok(),
    };
    number.filter(|number| (1..=LAST_REAL_TIME).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, want) in
            [("TERM", 15), ("sigkill", 9), ("1", 1), ("64", 64), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("WINCH", 28)]
        {
            assert_eq!(signal_number(text), Some(want), "{text}");
        }
        for bad in ["", "0", "65", "NOPE", "-1", "RTMAX-60", "RTMIN+31", "RTMIN+300"] {
            assert_eq!(signal_number(bad), None, "{bad}");
        }
    }
}
