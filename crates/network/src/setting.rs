//! Kernel settings that pods need to reach anything: planned from what the host has, written, and put back.
//!
//! Forwarding is a setting of the whole host. Where it was off, turning it on for pods must not turn the host into a router between its
//! other interfaces, nor make it deaf to router advertisements: so those interfaces are kept apart by a rule ([`crate::nft::plan`])
//! that stands before forwarding is turned on, and an interface that listens to advertisements is told to go on doing so
//! (`accept_ra` 2; kernel documentation, ip-sysctl).

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::nft::Apart;
use crate::state::{self, State, file_error};
use crate::{Change, InterfaceName, NetworkError};

const ROOT: &str = "/proc/sys/net";
const FORWARD4: &str = "ipv4/ip_forward";
const FORWARD6: &str = "ipv6/conf/all/forwarding";

/// The version of [`Settings`] on disk.
const VERSION: u32 = 1;

/// What was found on the host before anything was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    version: u32,
    /// Changed settings, in the order of the changes.
    pub(crate) changed: Vec<Setting>,
    pub(crate) apart: Apart,
}

/// A setting, by its path under `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) path: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Setting {
    fn name(&self) -> String {
        format!("net.{}", self.path.replace('/', "."))
    }
}

/// An interface of the host, as far as forwarding concerns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostInterface {
    pub(crate) name: InterfaceName,
    /// Its `accept_ra`; `None`: it has no IPv6.
    pub(crate) accept_ra: Option<String>,
}

/// The present values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) ipv4: String,
    /// `None`: the host has no IPv6.
    pub(crate) ipv6: Option<String>,
}

impl Forwarding {
    /// Reads them.
    pub(crate) fn load() -> Result<Self, NetworkError> {
        let ipv4 = read(FORWARD4)?.ok_or_else(|| file_error("read", &path_of(FORWARD4))(ErrorKind::NotFound.into()))?;
        Ok(Self { ipv4, ipv6: read(FORWARD6)? })
    }

    /// Whether packets of pods are forwarded.
    pub(crate) fn is_on(&self, with_ipv6: bool) -> bool {
        self.ipv4 == "1" && (!with_ipv6 || self.ipv6.as_deref() == Some("1"))
    }
}

/// Whether IPv6 can be used on this host.
pub(crate) fn host_has_ipv6() -> Result<bool, NetworkError> {
    let disabled = [read("ipv6/conf/all/disable_ipv6")?, read("ipv6/conf/default/disable_ipv6")?];
    Ok(disabled.iter().all(|value| value.as_deref() == Some("0")))
}

/// What has to change, and which interfaces then have to be kept apart. What was recorded earlier stays recorded: after a restart of this
/// program the first finding is the true one.
pub(crate) fn plan(
    earlier: &Settings,
    now: &Forwarding,
    with_ipv6: bool,
    interfaces: &[HostInterface],
) -> (Vec<Setting>, Settings) {
    let names = || interfaces.iter().map(|interface| interface.name.clone()).collect::<Vec<_>>();
    let on = |path: &str, from: &str| Setting { path: path.to_owned(), from: from.to_owned(), to: "1".to_owned() };
    let mut steps = Vec::new();
    let mut apart = earlier.apart.clone();
    if now.ipv4 != "1" {
        steps.push(on(FORWARD4, &now.ipv4));
        if apart.ipv4.is_empty() {
            apart.ipv4 = names();
        }
    }
    if let (true, Some(ipv6)) = (with_ipv6, now.ipv6.as_deref().filter(|value| *value != "1")) {
        // A forwarding interface with `accept_ra` 1 ignores advertisements: first 2, then forwarding, or the default route is lost.
        let listening = interfaces.iter().filter(|interface| interface.accept_ra.as_deref() == Some("1"));
        steps.extend(listening.map(|interface| Setting {
            path: format!("ipv6/conf/{}/accept_ra", interface.name),
            from: "1".to_owned(),
            to: "2".to_owned(),
        }));
        steps.push(on(FORWARD6, ipv6));
        if apart.ipv6.is_empty() {
            apart.ipv6 = names();
        }
    }
    let mut changed = earlier.changed.clone();
    let is_new = |step: &&Setting| !earlier.changed.iter().any(|known| known.path == step.path);
    changed.extend(steps.iter().filter(is_new).cloned());
    (steps, Settings { version: VERSION, changed, apart })
}

/// What the bridge itself needs; it goes with the bridge and is never put back.
pub(crate) fn of_bridge(bridge: &InterfaceName, with_ipv6: bool) -> Vec<(String, &'static str)> {
    // From 127.0.0.1 to a published port, and back; the rules keep others from using it.
    let mut settings = vec![(format!("ipv4/conf/{bridge}/route_localnet"), "1")];
    if with_ipv6 {
        // A pod must not be able to make itself the host's router (CVE-2020-10749).
        settings.push((format!("ipv6/conf/{bridge}/accept_ra"), "0"));
    }
    settings
}

/// Makes a namespace deaf to router advertisements (a pod must not make itself its neighbours' router, CVE-2020-13401), and its IPv6 addresses
/// usable at once: for interfaces that are made afterwards, in the calling thread's network namespace.
pub(crate) fn guard_new_interfaces() -> Result<(), NetworkError> {
    for path in ["ipv6/conf/default/accept_ra", "ipv6/conf/default/accept_dad"] {
        match write(path, "0") {
            // A kernel without IPv6.
            Err(NetworkError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Sets one setting unless it is so already.
pub(crate) fn set(path: &str, value: &str) -> Result<Option<Change>, NetworkError> {
    let from = read(path)?.unwrap_or_default();
    if from == value {
        return Ok(None);
    }
    write(path, value)?;
    Ok(Some(Change::Setting { name: format!("net.{}", path.replace('/', ".")), from, to: value.to_owned() }))
}

/// Carries the plan out.
pub(crate) fn apply(steps: &[Setting]) -> Result<Vec<Change>, NetworkError> {
    let change = |step: &Setting| {
        write(&step.path, &step.to)?;
        Ok(Change::Setting { name: step.name(), from: step.from.clone(), to: step.to.clone() })
    };
    steps.iter().map(change).collect()
}

/// Puts settings back, newest first, unless somebody changed them since or the interface is gone.
pub(crate) fn restore(settings: &Settings) -> Result<(), NetworkError> {
    for setting in settings.changed.iter().rev() {
        if read(&setting.path)?.as_deref() == Some(setting.to.as_str()) {
            write(&setting.path, &setting.from)?;
        }
    }
    Ok(())
}

/// The record of what was found; the default if nothing was changed so far.
pub(crate) fn recorded(state: &State) -> Result<Settings, NetworkError> {
    Ok(state.read(&state.path("settings.json"))?.unwrap_or_default())
}

/// Records what was found, before it is changed. Under the network's lock.
pub(crate) fn record(state: &State, settings: &Settings) -> Result<(), NetworkError> {
    state::write(&state.path("settings.new"), &state.path("settings.json"), settings)
}

/// The interface's `accept_ra`.
pub(crate) fn accept_ra(interface: &InterfaceName) -> Result<Option<String>, NetworkError> {
    read(&format!("ipv6/conf/{interface}/accept_ra"))
}

fn path_of(path: &str) -> PathBuf {
    PathBuf::from(ROOT).join(path)
}

fn read(path: &str) -> Result<Option<String>, NetworkError> {
    let path = path_of(path);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", &path)(error)),
    }
}

fn write(path: &str, value: &str) -> Result<(), NetworkError> {
    let path = path_of(path);
    fs::write(&path, value).map_err(file_error("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, accept_ra: &str) -> HostInterface {
        HostInterface { name: InterfaceName::new(name).unwrap(), accept_ra: Some(accept_ra.to_owned()) }
    }

    fn forwarding(ipv4: &str, ipv6: Option<&str>) -> Forwarding {
        Forwarding { ipv4: ipv4.to_owned(), ipv6: ipv6.map(str::to_owned) }
    }

    fn setting(path: &str, from: &str, to: &str) -> Setting {
        Setting { path: path.to_owned(), from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn a_host_that_forwards_already_is_left_alone() {
        let (steps, settings) =
            plan(&Settings::default(), &forwarding("1", Some("1")), true, &[interface("eth0", "1")]);
        assert_eq!((steps, settings), (vec![], Settings { version: VERSION, ..Default::default() }));
    }

    #[test]
    fn a_listening_interface_goes_on_listening_and_all_are_kept_apart() {
        let interfaces = [interface("eth0", "1"), interface("eth1", "0")];
        let (steps, settings) = plan(&Settings::default(), &forwarding("0", Some("0")), true, &interfaces);
        let expected = vec![
            setting("ipv4/ip_forward", "0", "1"),
            setting("ipv6/conf/eth0/accept_ra", "1", "2"),
            setting("ipv6/conf/all/forwarding", "0", "1"),
        ];
        let names: Vec<InterfaceName> = interfaces.iter().map(|i| i.name.clone()).collect();
        let apart = Apart { ipv4: names.clone(), ipv6: names };
        assert_eq!(settings, Settings { version: VERSION, changed: expected.clone(), apart });
        assert_eq!(steps, expected);
    }

    #[test]
    fn without_ipv6_its_settings_are_not_touched() {
        for (with_ipv6, ipv6) in [(false, Some("0")), (true, None)] {
            let (steps, _) = plan(&Settings::default(), &forwarding("0", ipv6), with_ipv6, &[interface("eth0", "1")]);
            assert_eq!(steps, [setting("ipv4/ip_forward", "0", "1")]);
        }
    }

    #[test]
    fn what_was_found_first_stays_on_record() {
        let (_, first) = plan(&Settings::default(), &forwarding("0", None), false, &[interface("eth0", "1")]);
        // Somebody turned it off again; meanwhile there is another interface.
        let (steps, second) =
            plan(&first, &forwarding("0", None), false, &[interface("eth0", "1"), interface("eth7", "1")]);
        assert_eq!(steps.len(), 1);
        assert_eq!(second, first);
    }
}
