//! The default seccomp profile for this host.

use carrack_oci_config::LinuxSeccomp;
use carrack_seccomp::{Arch, KernelVersion, default_profile as profile};
use carrack_sys::rustix::system::uname;

/// The built-in profile for a container with these capabilities (`CAP_…`).
pub(crate) fn default_profile(capabilities: &[String]) -> LinuxSeccomp {
    let release = uname().release().to_string_lossy().into_owned();
    profile(capabilities, HOST, kernel_version(&release))
}

#[cfg(target_arch = "x86_64")]
const HOST: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const HOST: Arch = Arch::Aarch64;

/// The version that `uname -r` tells; what is not a number counts as 0, which is the strictest.
fn kernel_version(release: &str) -> KernelVersion {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    KernelVersion { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(kernel_version("6.1.0-18-cloud-amd64"), KernelVersion { major: 6, minor: 1 });
        assert_eq!(kernel_version("5.10+"), KernelVersion { major: 5, minor: 10 });
        assert_eq!(kernel_version(""), KernelVersion { major: 0, minor: 0 });
    }
}
