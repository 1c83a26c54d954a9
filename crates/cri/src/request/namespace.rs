//! Namespace options of pod sandboxes and of containers.

use carrack_cri_proto::v1;
use carrack_engine::request::{NamespaceMode, NetworkMode, PodRequest};

use super::{RequestError, invalid, known, unsupported};

/// The namespaces of a pod sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodNamespaces {
    pub network: NetworkMode,
    pub ipc: NamespaceMode,
    pub pid: NamespaceMode,
}

/// Absent options are all `POD`, the interface's zero value.
pub(super) fn pod_namespaces(
    options: Option<&v1::NamespaceOption>,
    field: &str,
) -> Result<PodNamespaces, RequestError> {
    let absent = v1::NamespaceOption::default();
    let options = options.unwrap_or(&absent);
    no_user_namespace(options, field)?;
    let refuse = |name: &str, mode: v1::NamespaceMode| {
        Err(invalid(format!("{field}.{name}"), format!("a pod sandbox cannot have mode {}", mode.as_str_name())))
    };
    let network = match known(options.network, &format!("{field}.network"))? {
        v1::NamespaceMode::Pod => NetworkMode::Bridge,
        v1::NamespaceMode::Node => NetworkMode::Host,
        other => return refuse("network", other),
    };
    let ipc = match known(options.ipc, &format!("{field}.ipc"))? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Node => NamespaceMode::Host,
        other => return refuse("ipc", other),
    };
    let pid = match known(options.pid, &format!("{field}.pid"))? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Host,
        other => return refuse("pid", other),
    };
    Ok(PodNamespaces { network, ipc, pid })
}

/// The pid namespace of a container: absent means as its pod says.
///
/// Network and IPC are always the sandbox's, so `POD` just follows it; only a wish for the node's that the sandbox did not
/// have is refused.
pub(super) fn container_pid(
    options: Option<&v1::NamespaceOption>,
    pod: &PodRequest,
    field: &str,
) -> Result<Option<NamespaceMode>, RequestError> {
    let Some(options) = options else { return Ok(None) };
    no_user_namespace(options, field)?;
    for (name, value, pod_has_it) in [
        ("network", options.network, pod.network == NetworkMode::Host),
        ("ipc", options.ipc, pod.ipc == NamespaceMode::Host),
    ] {
        let field = format!("{field}.{name}");
        match known(value, &field)? {
            v1::NamespaceMode::Pod => {}
            v1::NamespaceMode::Node if pod_has_it => {}
            mode => {
                let mode = mode.as_str_name();
                return Err(invalid(field, format!("mode {mode} differs from the pod sandbox, whose namespace it is")));
            }
        }
    }
    let field = format!("{field}.pid");
    Ok(match (known(options.pid, &field)?, &pod.pid) {
        (v1::NamespaceMode::Pod, NamespaceMode::Container) => {
            return Err(invalid(field, "mode POD needs a pod sandbox made with it: this one shares no pid namespace"));
        }
        // The sandbox's, whatever that is.
        (v1::NamespaceMode::Pod, _) => None,
        (v1::NamespaceMode::Container, _) => Some(NamespaceMode::Container),
        (v1::NamespaceMode::Node, _) => Some(NamespaceMode::Host),
        (v1::NamespaceMode::Target, _) if options.target_id.is_empty() => {
            return Err(invalid(field, "mode TARGET needs a target_id"));
        }
        (v1::NamespaceMode::Target, _) => Some(NamespaceMode::Target(options.target_id.clone())),
    })
}

/// Absent means none, as callers older than the field expect (the interface's text says `POD`; no runtime does that).
fn no_user_namespace(options: &v1::NamespaceOption, field: &str) -> Result<(), RequestError> {
    let Some(user) = &options.userns_options else { return Ok(()) };
    let field = format!("{field}.userns_options");
    match known(user.mode, &format!("{field}.mode"))? {
        v1::NamespaceMode::Node if user.uids.is_empty() && user.gids.is_empty() => Ok(()),
        v1::NamespaceMode::Node => Err(invalid(field, "mode NODE takes no id mappings")),
        v1::NamespaceMode::Pod => Err(unsupported(field, "user namespaces are not supported yet")),
        mode => Err(invalid(field, format!("mode {} does not exist for user namespaces", mode.as_str_name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::NamespaceMode::{Container, Node, Pod, Target};

    fn options(network: v1::NamespaceMode, ipc: v1::NamespaceMode, pid: v1::NamespaceMode) -> v1::NamespaceOption {
        v1::NamespaceOption { network: network.into(), ipc: ipc.into(), pid: pid.into(), ..Default::default() }
    }

    #[test]
    fn a_sandbox_has_exactly_these_namespaces() {
        use NamespaceMode as Mode;
        let made = |network, ipc, pid| Ok(PodNamespaces { network, ipc, pid });
        let refused = |field: &str, mode: &str| {
            Err(invalid(format!("o.{field}"), format!("a pod sandbox cannot have mode {mode}")))
        };
        for (given, wanted) in [
            (options(Pod, Pod, Pod), made(NetworkMode::Bridge, Mode::Pod, Mode::Pod)),
            (options(Pod, Pod, Container), made(NetworkMode::Bridge, Mode::Pod, Mode::Container)),
            (options(Node, Node, Node), made(NetworkMode::Host, Mode::Host, Mode::Host)),
            (options(Container, Pod, Pod), refused("network", "CONTAINER")),
            (options(Target, Pod, Pod), refused("network", "TARGET")),
            (options(Pod, Container, Pod), refused("ipc", "CONTAINER")),
            (options(Pod, Target, Pod), refused("ipc", "TARGET")),
            (options(Pod, Pod, Target), refused("pid", "TARGET")),
        ] {
            assert_eq!(pod_namespaces(Some(&given), "o"), wanted, "{given:?}");
        }
        assert_eq!(pod_namespaces(None, "o"), made(NetworkMode::Bridge, Mode::Pod, Mode::Pod));
        let newer = v1::NamespaceOption { pid: 9, ..Default::default() };
        assert_eq!(pod_namespaces(Some(&newer), "o"), Err(invalid("o.pid", "unknown value 9")));
    }

    #[test]
    fn a_container_follows_its_sandbox_except_in_the_pid_namespace() {
        use NamespaceMode as Mode;
        let pod = |network, ipc, pid| PodRequest { network, ipc, pid, ..Default::default() };
        let ordinary = pod(NetworkMode::Bridge, Mode::Pod, Mode::Container);
        let sharing = pod(NetworkMode::Bridge, Mode::Pod, Mode::Pod);
        let host = pod(NetworkMode::Host, Mode::Host, Mode::Host);
        assert_eq!(container_pid(None, &ordinary, "o"), Ok(None));
        for (given, pod, wanted) in [
            (options(Pod, Pod, Container), &ordinary, Some(Mode::Container)),
            (options(Pod, Pod, Node), &ordinary, Some(Mode::Host)),
            (options(Pod, Pod, Pod), &sharing, None),
            (options(Pod, Pod, Container), &sharing, Some(Mode::Container)),
            (options(Node, Node, Pod), &host, None),
            (options(Pod, Pod, Node), &host, Some(Mode::Host)),
        ] {
            assert_eq!(container_pid(Some(&given), pod, "o"), Ok(wanted), "{given:?}");
        }
        for (given, pod, field) in [
            (options(Node, Pod, Container), &ordinary, "o.network"),
            (options(Container, Pod, Container), &ordinary, "o.network"),
            (options(Pod, Node, Container), &ordinary, "o.ipc"),
            (options(Pod, Pod, Pod), &ordinary, "o.pid"),
            (options(Pod, Pod, Target), &ordinary, "o.pid"),
        ] {
            let error = container_pid(Some(&given), pod, "o").expect_err("refused");
            assert!(matches!(&error, RequestError::Invalid { field: at, .. } if at == field), "{given:?}: {error}");
        }
        let target = v1::NamespaceOption { target_id: "abc".into(), ..options(Pod, Pod, Target) };
        assert_eq!(container_pid(Some(&target), &ordinary, "o"), Ok(Some(Mode::Target("abc".into()))));
    }

    #[test]
    fn user_namespaces_are_refused_by_name_and_the_nodes_is_not() {
        let mapping = v1::IdMapping { host_id: 100_000, container_id: 0, length: 65536 };
        let with = |mode: v1::NamespaceMode, uids: Vec<v1::IdMapping>| v1::NamespaceOption {
            userns_options: Some(v1::UserNamespace { mode: mode.into(), uids, gids: vec![] }),
            ..Default::default()
        };
        assert_eq!(no_user_namespace(&with(Node, vec![]), "o"), Ok(()));
        assert_eq!(
            no_user_namespace(&with(Pod, vec![mapping]), "o"),
            Err(unsupported("o.userns_options", "user namespaces are not supported yet"))
        );
        for wrong in [with(Node, vec![mapping]), with(Container, vec![]), with(Target, vec![])] {
            let error = no_user_namespace(&wrong, "o").expect_err("refused");
            assert!(matches!(error, RequestError::Invalid { .. }), "{wrong:?}: {error}");
        }
    }
}
