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

/// Bytes, with the suffixes b, k, m, g (powers of 1024, as docker has them).
pub fn bytes(flag: &'static str, value: &str) -> Result<i64, ValueError> {
    let want = "want a number with an optional suffix b, k, m or g, like 512m";
    let lower = value.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match bare.as_bytes().last() {
        Some(b'k') => (&bare[..bare.len() - 1], 10),
        Some(b'm') => (&bare[..bare.len() - 1], 20),
        Some(b'g') => (&bare[..bare.len() - 1], 30),
        Some(b't') => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let number: f64 = digits.trim().parse().map_err(|_| error(flag, value, want))?;
    let bytes = number * (1_u64 << shift) as f64;
    match bytes.is_finite() && bytes >= 1.0 && bytes < i64::MAX as f64 {
        true => Ok(bytes as i64),
        false => Err(error(flag, value, want)),
    }
}

/// CPUs as quota and period in microseconds.
pub fn cpus(value: &str) -> Result<(i64, u64), ValueError> {
    const PERIOD: u64 = 100_000;
    let number: f64 = value.parse().map_err(|_| error("--cpus", value, "want a number like 0.5 or 2"))?;
    let quota = (number * PERIOD as f64).round();
    match quota.is_finite() && (1000.0..1e15).contains(&quota) {
        true => Ok((quota as i64, PERIOD)),
        false => Err(error("--cpus", value, "want at least 0.01")),
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
        destination: destination.to_owned(),
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

/// A signal by name (with or without SIG) or number.
pub fn signal(value: &str) -> Result<u8, ValueError> {
    signal_number(value).ok_or_else(|| error("--signal", value, "want a name like TERM or a number from 1 to 64"))
}

/// The variables of an environment file: a line each, `#` starts a comment.
pub fn env_file(text: &str, caller: impl Fn(&str) -> Option<String>) -> Vec<String> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| env(line, &caller))
        .collect()
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
        for (text, want) in
            [("1", 1), ("512m", 512 << 20), ("1.5g", 3 << 29), ("2Gb", 2 << 30), ("4KiB", 4096), ("7b", 7)]
        {
            assert_eq!(bytes("--memory", text), Ok(want), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "nan", "inf", "1e400", "0"] {
            assert!(bytes("--memory", bad).is_err(), "{bad}");
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
        let range = publish("8000-8002:80-82").unwrap();
        assert_eq!(range.len(), 3);
        assert_eq!(range[2], port(None, 8002, 82, Protocol::Tcp));
        for bad in ["", "x", "0:80", "80:0", "70000", "1-3:1-2", "1:2:3:4", "80/icmp", "3-1"] {
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
        for bad in ["", "a:b", "/a:/", "/a:/b/../..", "/a:/b:z", ":/b", "a:b:c:d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_without_a_value_come_from_the_caller() {
        let caller = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(env_file("# no\n\nA=1 2\nHOME\nMISSING\n", caller), ["A=1 2", "HOME=/root"]);
    }
}
