//! Values of flags: sizes, ports, volumes, signals and the like. Pure.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use carrack_engine::request::{MountRequest, MountSource, NetworkMode, PortMapping, Propagation, Protocol};
use carrack_engine::{RestartPolicy, signal_number};

/// A flag's value makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {flag} {value:?}: {want}")]
pub struct ValueError {
    /// The flag.
    pub flag: &'static str,
    /// As given.
    pub value: String,
    /// What would do.
    pub want: &'static str,
}

fn error(flag: &'static str, value: &str, want: &'static str) -> ValueError {
    ValueError { flag, value: value.to_owned(), want }
}

/// Bytes, with the suffixes b, k, m, g, t (powers of 1024, as docker has them; `64MB` and `64MiB` are `64m`); 0 is no limit.
pub fn memory(value: &str) -> Result<Option<i64>, ValueError> {
    let bad = || error("--memory", value, "want at least 6m: a number with an optional suffix b, k, m or g, like 512m");
    let lower = value.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match bare.as_bytes().last() {
        Some(b'k') => (&bare[..bare.len() - 1], 10),
        Some(b'm') => (&bare[..bare.len() - 1], 20),
        Some(b'g') => (&bare[..bare.len() - 1], 30),
        Some(b't') => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let bytes = decimal(digits.trim_end()).ok_or_else(bad)? * (1_u64 << shift) as f64;
    match bytes {
        0.0 => Ok(None),
        // The kernel may not even start a program with less.
        bytes if bytes >= (6 << 20) as f64 && bytes < i64::MAX as f64 => Ok(Some(bytes as i64)),
        _ => Err(bad()),
    }
}

/// CPUs as quota and period in microseconds; 0 is no limit.
pub fn cpus(value: &str) -> Result<Option<(i64, u64)>, ValueError> {
    const PERIOD: u64 = 100_000;
    let bad = || error("--cpus", value, "want a number of at least 0.01, like 0.5 or 2");
    let quota = (decimal(value).ok_or_else(bad)? * PERIOD as f64).round();
    match quota {
        0.0 if value.bytes().all(|byte| b"0.".contains(&byte)) => Ok(None),
        quota if (1000.0..1e15).contains(&quota) => Ok(Some((quota as i64, PERIOD))),
        _ => Err(bad()),
    }
}

/// A plain decimal number: digits with or without a point.
fn decimal(text: &str) -> Option<f64> {
    match text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        true => text.parse().ok(),
        false => None,
    }
}

/// A network mode.
pub fn network(value: &str) -> Result<NetworkMode, ValueError> {
    match value {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ => Err(error("--network", value, "want bridge, host or none (named networks are not supported yet)")),
    }
}

/// A restart policy.
pub fn restart(value: &str) -> Result<RestartPolicy, ValueError> {
    let want = "want no, always, unless-stopped or on-failure[:MAX]";
    match value.split_once(':') {
        None => match value {
            "no" | "" => Ok(RestartPolicy::No),
            "always" => Ok(RestartPolicy::Always),
            "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
            "on-failure" => Ok(RestartPolicy::OnFailure { max_retries: None }),
            _ => Err(error("--restart", value, want)),
        },
        Some(("on-failure", max)) => {
            let max = max.parse().map_err(|_| error("--restart", value, want))?;
            Ok(RestartPolicy::OnFailure { max_retries: Some(max).filter(|max| *max > 0) })
        }
        Some(_) => Err(error("--restart", value, want)),
    }
}

/// `[[IP:]HOST:]PORT[/PROTOCOL]`, where both ports may be ranges of one length.
pub fn publish(value: &str) -> Result<Vec<PortMapping>, ValueError> {
    let bad =
        || error("--publish", value, "want [[IP:]HOST:]PORT[/tcp|udp|sctp], like 8080:80 or 127.0.0.1:5353:53/udp");
    let (rest, protocol) = match value.rsplit_once('/') {
        None => (value, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((rest, "sctp")) => (rest, Protocol::Sctp),
        Some(_) => return Err(bad()),
    };
    let (rest, container) = rest.rsplit_once(':').map_or(("", rest), |(rest, port)| (rest, port));
    let (ip, host) = match rest.rsplit_once(':') {
        // An IPv6 address stands in brackets, so that its colons are not taken for ours.
        Some((ip, host)) => (ip, host),
        None => ("", rest),
    };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let host_ip: Option<IpAddr> = match ip {
        "" => None,
        ip => Some(ip.parse().map_err(|_| bad())?),
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (first >= 1 && first <= last).then_some((first, last))
    };
    // Port 0 of the host is any that is free, like none.
    let host = if host == "0" { "" } else { host };
    let (first, last) = range(container).ok_or_else(bad)?;
    let host = match host {
        "" => None,
        host => Some(range(host).ok_or_else(bad)?),
    };
    if host.is_some_and(|(from, to)| to - from != last - first) {
        return Err(bad());
    }
    let host_port = |offset| host.map_or(0, |(from, _)| from + offset);
    Ok((0..=last - first)
        .map(|offset| PortMapping { protocol, container_port: first + offset, host_port: host_port(offset), host_ip })
        .collect())
}

/// `SOURCE:TARGET[:OPTIONS]` or `TARGET`; `directory` is where relative sources start.
pub fn volume(value: &str, directory: &Path) -> Result<MountRequest, ValueError> {
    let bad = |want| error("--volume", value, want);
    let parts: Vec<&str> = value.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("want SOURCE:TARGET[:ro]")),
    };
    let destination = Path::new(target);
    if !destination.is_absolute() || destination.components().any(|part| part == Component::ParentDir) {
        return Err(bad("the path in the container must be absolute and without .."));
    }
    if destination == Path::new("/") {
        return Err(bad("the container's root cannot be mounted over"));
    }
    let source = match source {
        None => MountSource::Anonymous,
        Some("") => return Err(bad("the source is empty")),
        Some(path) if path.starts_with(['/', '.', '~']) => {
            let path = PathBuf::from(path);
            MountSource::Bind { path: if path.is_absolute() { path } else { directory.join(path) }, create: true }
        }
        Some(name) => MountSource::Volume { name: name.to_owned() },
    };
    let mut mount = MountRequest {
        source,
        // `/a//b/./` is `/a/b`: two names of one place are to be seen as one.
        destination: destination.components().collect(),
        readonly: false,
        recursive_readonly: false,
        propagation: Propagation::Private,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.readonly = true,
            "rw" => mount.readonly = false,
            "rro" => (mount.readonly, mount.recursive_readonly) = (true, true),
            "private" | "rprivate" => mount.propagation = Propagation::Private,
            "slave" | "rslave" => mount.propagation = Propagation::HostToContainer,
            "shared" | "rshared" => mount.propagation = Propagation::Bidirectional,
            _ => return Err(bad("known options are ro, rw, rro, rprivate, rslave and rshared")),
        }
    }
    Ok(mount)
}

/// Two mounts on one place would hide one of them.
pub fn check_targets(mounts: &[MountRequest]) -> Result<(), ValueError> {
    let mut seen = std::collections::BTreeSet::new();
    match mounts.iter().find(|mount| !seen.insert(&mount.destination)) {
        None => Ok(()),
        Some(twice) => {
            let target = twice.destination.to_string_lossy();
            Err(error("--volume", &target, "duplicate mount point: only one thing can be mounted there"))
        }
    }
}

/// A signal by name (with or without SIG) or number.
pub fn signal(value: &str) -> Result<u8, ValueError> {
    signal_number(value).ok_or_else(|| error("--signal", value, "want a name like TERM or a number from 1 to 64"))
}

/// A line of an environment file makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// From 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The variables of an environment file: a line each, `#` starts a comment, `NAME` alone takes the caller's value.
pub fn env_file(bytes: &[u8], caller: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, EnvFileError> {
    let mut variables = Vec::new();
    // Editors of some systems begin a text with this mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let bad = |problem| EnvFileError { line: index + 1, problem };
        let line = std::str::from_utf8(line).map_err(|_| bad("it is not UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or(line);
        match name {
            "" => return Err(bad("there is no name before the equals sign; want NAME=VALUE")),
            name if name.contains(char::is_whitespace) => {
                return Err(bad("the name has a blank in it; want NAME=VALUE"));
            }
            _ if line.contains('\0') => return Err(bad("it contains a NUL byte")),
            _ => variables.extend(env(line, &caller)),
        }
    }
    Ok(variables)
}

/// One variable: `NAME=VALUE` as it is, `NAME` with the caller's value or not at all.
pub fn env(text: &str, caller: impl Fn(&str) -> Option<String>) -> Option<String> {
    match text.contains('=') {
        true => Some(text.to_owned()),
        false => caller(text).map(|value| format!("{text}={value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes_and_bad_ones_are_refused() {
        for (text, want) in [
            ("6291456", 6 << 20),
            ("512m", 512 << 20),
            ("64MB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("2Gb", 2 << 30),
            ("7340032b", 7 << 20),
        ] {
            assert_eq!(memory(text), Ok(Some(want)), "{text}");
        }
        assert_eq!(memory("0"), Ok(None));
        for bad in ["", "m", "-1", "1x", "nan", "inf", "1e400", "1e9", "5m", "1"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_may_be_parts_of_one() {
        for (text, want) in [("2", 200_000), (".5", 50_000), ("0.25", 25_000), ("1.", 100_000)] {
            assert_eq!(cpus(text), Ok(Some((want, 100_000))), "{text}");
        }
        assert_eq!(cpus("0"), Ok(None));
        for bad in ["", ".", "-1", "many", "0.0000001", "0.001", "1e3", "1/2"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_in_all_their_forms() {
        let one = |text: &str| publish(text).map(|mut list| list.remove(0));
        let port = |ip: Option<&str>, host, container, protocol| PortMapping {
            protocol,
            container_port: container,
            host_port: host,
            host_ip: ip.map(|ip| ip.parse().unwrap()),
        };
        assert_eq!(one("80"), Ok(port(None, 0, 80, Protocol::Tcp)));
        assert_eq!(one("8080:80"), Ok(port(None, 8080, 80, Protocol::Tcp)));
        assert_eq!(one("127.0.0.1:53:53/udp"), Ok(port(Some("127.0.0.1"), 53, 53, Protocol::Udp)));
        assert_eq!(one("127.0.0.1::53"), Ok(port(Some("127.0.0.1"), 0, 53, Protocol::Tcp)));
        assert_eq!(one("[::1]:8080:80"), Ok(port(Some("::1"), 8080, 80, Protocol::Tcp)));
        assert_eq!(one("0:53"), Ok(port(None, 0, 53, Protocol::Tcp)));
        let range = publish("8000-8002:80-82").unwrap();
        assert_eq!(range.len(), 3);
        assert_eq!(range[2], port(None, 8002, 82, Protocol::Tcp));
        for bad in ["", "x", "80:0", "70000", "1-3:1-2", "1:2:3:4", "80/icmp", "3-1"] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_name_a_path_a_volume_or_nothing() {
        let parse = |text: &str| volume(text, Path::new("/here"));
        let source = |text: &str| parse(text).unwrap().source;
        assert_eq!(source("/a:/b"), MountSource::Bind { path: "/a".into(), create: true });
        assert_eq!(source("./a:/b"), MountSource::Bind { path: "/here/./a".into(), create: true });
        assert_eq!(source("data:/b"), MountSource::Volume { name: "data".into() });
        assert_eq!(source("/b"), MountSource::Anonymous);
        assert!(parse("/a:/b:ro").unwrap().readonly);
        let pair = |one: &str, two: &str| check_targets(&[parse(one).unwrap(), parse(two).unwrap()]);
        assert_eq!(pair("/a:/b", "/a:/c"), Ok(()));
        assert_eq!(pair("/a:/b", "x:/.//b/").unwrap_err().value, "/b");
        for bad in ["", "a:b", "/a:/", "/a:/b/../..", "/a:/b:z", ":/b", "a:b:c:d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_without_a_value_come_from_the_caller() {
        let caller = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let file = b"\xef\xbb\xbf# no\n\n  A=1 2\r\nHOME\nMISSING\n";
        assert_eq!(env_file(file, caller).unwrap(), ["A=1 2", "HOME=/root"]);
        for (file, line) in [(&b"A=1\n=2\n"[..], 2), (b"A B=1", 1), (b"A=1\n\n\xff=1\n", 3), (b"A=\0", 1)] {
            assert_eq!(env_file(file, caller).unwrap_err().line, line);
        }
    }
}
