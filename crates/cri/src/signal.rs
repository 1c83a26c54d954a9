//! The interface's signal names and Linux's numbers (signal(7), the columns for x86 and ARM).
//!
//! Real-time signals are counted as C libraries do, which keep the first two: SIGRTMIN is 34.

use carrack_cri_proto::v1::Signal;

const RT_MIN: u8 = 34;
const RT_MAX: u8 = 64;

/// The signals below the real-time ones. Of two names for one number the first is the one that is shown.
const NAMED: [(Signal, u8); 34] = [
    (Signal::Sighup, 1),
    (Signal::Sigint, 2),
    (Signal::Sigquit, 3),
    (Signal::Sigill, 4),
    (Signal::Sigtrap, 5),
    (Signal::Sigabrt, 6),
    (Signal::Sigiot, 6),
    (Signal::Sigbus, 7),
    (Signal::Sigfpe, 8),
    (Signal::Sigkill, 9),
    (Signal::Sigusr1, 10),
    (Signal::Sigsegv, 11),
    (Signal::Sigusr2, 12),
    (Signal::Sigpipe, 13),
    (Signal::Sigalrm, 14),
    (Signal::Sigterm, 15),
    (Signal::Sigstkflt, 16),
    (Signal::Sigchld, 17),
    (Signal::Sigcld, 17),
    (Signal::Sigcont, 18),
    (Signal::Sigstop, 19),
    (Signal::Sigtstp, 20),
    (Signal::Sigttin, 21),
    (Signal::Sigttou, 22),
    (Signal::Sigurg, 23),
    (Signal::Sigxcpu, 24),
    (Signal::Sigxfsz, 25),
    (Signal::Sigvtalrm, 26),
    (Signal::Sigprof, 27),
    (Signal::Sigwinch, 28),
    (Signal::Sigio, 29),
    (Signal::Sigpoll, 29),
    (Signal::Sigpwr, 30),
    (Signal::Sigsys, 31),
];

/// The signal's number; `None` for `RUNTIME_DEFAULT`, which leaves the choice to the image.
pub(crate) fn number(signal: Signal) -> Option<u8> {
    if signal == Signal::RuntimeDefault {
        return None;
    }
    if let Some((_, number)) = NAMED.iter().find(|(name, _)| *name == signal) {
        return Some(*number);
    }
    // The rest are the real-time signals, and the interface numbers them in order: SIGRTMIN to SIGRTMIN+15, then
    // SIGRTMAX-14 to SIGRTMAX.
    let position = u8::try_from(signal as i32 - Signal::Sigrtmin as i32).ok()?;
    Some(RT_MIN + position).filter(|number| *number <= RT_MAX)
}

/// The signal with this number; `RUNTIME_DEFAULT` for one without a name (32 and 33 belong to the C library).
pub(crate) fn named(number: u8) -> Signal {
    if let Some((name, _)) = NAMED.iter().find(|(_, named)| *named == number) {
        return *name;
    }
    if !(RT_MIN..=RT_MAX).contains(&number) {
        return Signal::RuntimeDefault;
    }
    Signal::try_from(Signal::Sigrtmin as i32 + i32::from(number - RT_MIN)).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_65_names_have_the_numbers_of_signal_7() {
        let all: Vec<Signal> = (1..=65).map(|value| Signal::try_from(value).expect("65 names")).collect();
        assert!(Signal::try_from(66).is_err());
        for signal in all {
            let got = number(signal).unwrap_or_else(|| panic!("{} has no number", signal.as_str_name()));
            let name = signal.as_str_name();
            // The names tell the real-time numbers by themselves.
            let wanted = if let Some(more) = name.strip_prefix("SIGRTMINPLUS") {
                34 + more.parse::<u8>().expect("a number")
            } else if let Some(less) = name.strip_prefix("SIGRTMAXMINUS") {
                64 - less.parse::<u8>().expect("a number")
            } else if name == "SIGRTMIN" {
                34
            } else if name == "SIGRTMAX" {
                64
            } else {
                continue;
            };
            assert_eq!(got, wanted, "{name}");
        }
        assert_eq!(number(Signal::RuntimeDefault), None);
        for (signal, wanted) in
            [(Signal::Sigterm, 15), (Signal::Sigkill, 9), (Signal::Sigiot, 6), (Signal::Sigpoll, 29)]
        {
            assert_eq!(number(signal), Some(wanted));
        }
    }

    #[test]
    fn every_number_with_a_name_comes_back() {
        for wanted in (1..=31).chain(34..=64) {
            assert_eq!(number(named(wanted)), Some(wanted), "{wanted}");
        }
        for nameless in [0, 32, 33, 65, 255] {
            assert_eq!(named(nameless), Signal::RuntimeDefault, "{nameless}");
        }
        assert_eq!((named(6), named(17), named(29)), (Signal::Sigabrt, Signal::Sigchld, Signal::Sigio));
    }
}
