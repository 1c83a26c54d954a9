//! Asks the host, once, what translations depend on.

use std::fs;
use std::path::Path;

use crate::request::HostFacts;

impl HostFacts {
    /// What is not there to be read is off.
    pub(crate) fn probe() -> Self {
        let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            apparmor: apparmor.starts_with('Y'),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            recursive_readonly: is_at_least(&release, (5, 12)),
        }
    }
}

/// Whether a kernel release like `6.1.0-18-amd64` is this version or a later one; false if it cannot be read.
fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare_by_number() {
        for (release, wanted) in [
            ("5.12.0", true),
            ("5.11.22-generic", false),
            ("5.9.0", false),
            ("6.1.0-18-amd64\n", true),
            ("10.0", true),
            ("5", false),
            ("", false),
        ] {
            assert_eq!(is_at_least(release, (5, 12)), wanted, "{release:?}");
        }
    }
}
