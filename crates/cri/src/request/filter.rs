//! Filters of lists. All that is set must hold; an absent filter shows everything.

use carrack_cri_proto::v1;
use carrack_engine::request::{ContainerFilter, PodFilter};

use super::{RequestError, given, known};

/// Which pod sandboxes are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PodQuery {
    /// Id or unique prefix, still to be resolved.
    pub id: Option<String>,
    /// The rest.
    pub filter: PodFilter,
}

/// Which containers are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ContainerQuery {
    /// Id or unique prefix, still to be resolved.
    pub id: Option<String>,
    /// Id or unique prefix of the pod sandbox, still to be resolved.
    pub pod: Option<String>,
    /// State that the container must be in.
    pub state: Option<v1::ContainerState>,
    /// The rest.
    pub filter: ContainerFilter,
}

/// The query of this filter. Containers that run without a sandbox are no business of this interface.
pub(crate) fn pod_query(filter: Option<&v1::PodSandboxFilter>) -> Result<PodQuery, RequestError> {
    let filter = filter.cloned().unwrap_or_default();
    let ready = match filter.state {
        None => None,
        Some(value) => {
            Some(known::<v1::PodSandboxState>(value.state, "filter.state")? == v1::PodSandboxState::SandboxReady)
        }
    };
    Ok(PodQuery {
        id: given(&filter.id).map(str::to_owned),
        filter: PodFilter { id: None, ready, labels: filter.label_selector, include_single: false },
    })
}

/// The query of this filter.
pub(crate) fn container_query(filter: Option<&v1::ContainerFilter>) -> Result<ContainerQuery, RequestError> {
    let filter = filter.cloned().unwrap_or_default();
    Ok(ContainerQuery {
        id: given(&filter.id).map(str::to_owned),
        pod: given(&filter.pod_sandbox_id).map(str::to_owned),
        state: filter.state.map(|value| known(value.state, "filter.state")).transpose()?,
        filter: ContainerFilter {
            id: None,
            pod: None,
            labels: filter.label_selector,
            include_single: false,
            include_sandboxed: true,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn filters_arrive_whole() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert_eq!(pod_query(None), Ok(PodQuery::default()));
        let pods = v1::PodSandboxFilter {
            id: "ab".into(),
            state: Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxNotready.into() }),
            label_selector: labels.clone(),
        };
        let filter = PodFilter { ready: Some(false), labels: labels.clone(), ..Default::default() };
        assert_eq!(pod_query(Some(&pods)), Ok(PodQuery { id: Some("ab".into()), filter }));

        let containers = v1::ContainerFilter {
            id: "c".into(),
            state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerExited.into() }),
            pod_sandbox_id: "p".into(),
            label_selector: labels.clone(),
        };
        let wanted = ContainerQuery {
            id: Some("c".into()),
            pod: Some("p".into()),
            state: Some(v1::ContainerState::ContainerExited),
            filter: ContainerFilter { labels, include_sandboxed: true, ..Default::default() },
        };
        assert_eq!(container_query(Some(&containers)), Ok(wanted));
    }

    #[test]
    fn an_unknown_state_is_refused() {
        let pods = v1::PodSandboxFilter { state: Some(v1::PodSandboxStateValue { state: 7 }), ..Default::default() };
        assert!(pod_query(Some(&pods)).is_err());
        let containers =
            v1::ContainerFilter { state: Some(v1::ContainerStateValue { state: 7 }), ..Default::default() };
        assert!(container_query(Some(&containers)).is_err());
    }
}
