//! What this host and this process bring along, asked once.

use std::io;

use carrack_sys::signal::SignalSet;

use crate::procfs::read_text;

/// From `/proc/self/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Capabilities that we hold and can give away.
    pub capabilities: u64,
    /// The bounding set.
    pub bounding: u64,
    /// Signals that are ignored, and would stay so over exec.
    pub ignored_signals: SignalSet,
}

impl HostFacts {
    /// Asks the kernel.
    pub fn ask() -> io::Result<Self> {
        Self::parse(&read_text("/proc/self/status")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        let bounding = field("CapBnd")?;
        Some(Self { capabilities: field("CapPrm")? & bounding, bounding, ignored_signals: SignalSet(field("SigIgn")?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_by_their_whole_name() {
        let status = "Name:\tSigIgn:\nSigBlk:\t00000001\nSigIgn:\t0000000000001000\nCapPrm:\t00000000000000ff\nCapBnd:\t000000000000000f\n";
        assert_eq!(
            HostFacts::parse(status),
            Some(HostFacts { capabilities: 0xf, bounding: 0xf, ignored_signals: SignalSet(0x1000) })
        );
        assert_eq!(HostFacts::parse("SigIgn:\tx\n"), None);
    }
}
