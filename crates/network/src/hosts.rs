//! The content of a pod's `/etc/hosts` and `/etc/hostname`.
//!
//! Pure. Formats: hosts(5), hostname(5).

use std::fmt::Write as _;
use std::net::IpAddr;

/// What a pod's `/etc/hosts` says beside the names of the loopback addresses.
#[derive(Debug, Clone, Copy)]
pub struct HostsFile<'a> {
    /// The pod's host name, which its own addresses stand for; a name with a domain also gets its first label as an alias.
    pub hostname: &'a str,
    /// The pod's addresses; empty without a network, where the host name then stands for 127.0.1.1 as on Debian.
    pub addresses: &'a [IpAddr],
    /// More names, as the user gave them.
    pub extra: &'a [(IpAddr, String)],
}

/// The text of `/etc/hosts`.
pub fn hosts_file(hosts: &HostsFile<'_>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let own = match hosts.hostname.split_once('.') {
        Some((label, _)) if !label.is_empty() => format!("{} {label}", hosts.hostname),
        _ => hosts.hostname.to_owned(),
    };
    let stand_in = [IpAddr::from([127, 0, 1, 1])];
    let addresses = if hosts.addresses.is_empty() { &stand_in } else { hosts.addresses };
    // The user's lines come first: the first match counts.
    for (address, name) in hosts.extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
    for address in addresses.iter().filter(|_| !own.is_empty()) {
        let _ = writeln!(text, "{address}\t{own}");
    }
    text
}

/// The text of `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                            ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

    #[test]
    fn a_pod_finds_itself_under_its_name_at_each_of_its_addresses() {
        let addresses = ["10.114.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let extra = [("192.0.2.9".parse().unwrap(), "db".to_owned())];
        let text = hosts_file(&HostsFile { hostname: "web.example.org", addresses: &addresses, extra: &extra });
        let own = "192.0.2.9\tdb\n10.114.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n";
        assert_eq!(text, format!("{LOOPBACK}{own}"));
    }

    #[test]
    fn without_an_address_the_name_stands_for_a_loopback_address() {
        let text = hosts_file(&HostsFile { hostname: "lonely", addresses: &[], extra: &[] });
        assert_eq!(text, format!("{LOOPBACK}127.0.1.1\tlonely\n"));
    }

    #[test]
    fn a_host_name_is_one_line() {
        assert_eq!(hostname_file("web"), "web\n");
    }
}
