//! Calls about pod sandboxes.

use std::collections::BTreeMap;

use carrack_cri_proto::v1;
use carrack_engine::Engine;
use carrack_engine::view::PodView;
use carrack_words::{Kind, PodId};

use super::{done_or_gone, if_there, pod_id};
use crate::fault::Fault;
use crate::request::{HostFacts, PodQuery, pod_query, pod_request};
use crate::status::{pod_sandbox, pod_sandbox_status};

/// Makes the sandbox; a repeat of the request that made it finds it.
pub(crate) fn run(engine: &Engine, request: &v1::RunPodSandboxRequest, host: &HostFacts) -> Result<PodId, Fault> {
    let wanted = pod_request(request, host)?;
    match engine.run_pod(wanted.clone()) {
        // The same request may have come twice at once: the engine now sees the other one's sandbox, and waits until it is made.
        Err(error) if error.kind() == Kind::AlreadyExists => Ok(engine.run_pod(wanted)?),
        made => Ok(made?),
    }
}

/// Stops it, if it is there.
pub(crate) fn stop(engine: &Engine, request: &v1::StopPodSandboxRequest) -> Result<(), Fault> {
    let Some(pod) = if_there(pod_id(engine, &request.pod_sandbox_id))? else { return Ok(()) };
    done_or_gone(engine.stop_pod(&pod), || engine.pod(&pod))
}

/// Removes it, with what runs in it, if it is there.
pub(crate) fn remove(engine: &Engine, request: &v1::RemovePodSandboxRequest) -> Result<(), Fault> {
    let Some(pod) = if_there(pod_id(engine, &request.pod_sandbox_id))? else { return Ok(()) };
    done_or_gone(engine.remove_pod(&pod), || engine.pod(&pod))
}

/// Tells of one sandbox.
pub(crate) fn status(
    engine: &Engine,
    request: &v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Fault> {
    let pod = engine.pod(&pod_id(engine, &request.pod_sandbox_id)?)?;
    let info = if request.verbose { verbose(&pod)? } else { BTreeMap::new() };
    Ok(v1::PodSandboxStatusResponse {
        status: Some(pod_sandbox_status(&pod)),
        info,
        // For callers that follow events, which are not offered.
        containers_statuses: Vec::new(),
        timestamp: 0,
    })
}

/// One JSON object under the key `info`, where debugging tools look for it.
fn verbose(pod: &PodView) -> Result<BTreeMap<String, String>, Fault> {
    let text = serde_json::to_string(&serde_json::json!({
        "pid": pod.monitor.map_or(0, |monitor| monitor.pid),
        "pod": pod,
    }));
    let text = text.map_err(|source| Fault::Verbose { id: pod.id.to_string(), source })?;
    Ok(BTreeMap::from([("info".to_owned(), text)]))
}

/// The sandboxes that the filter lets through.
pub(crate) fn list(engine: &Engine, filter: Option<&v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>, Fault> {
    let PodQuery { id, mut filter } = pod_query(filter)?;
    if let Some(text) = id {
        let Some(pod) = matching(pod_id(engine, &text))? else { return Ok(Vec::new()) };
        filter.id = Some(pod.to_string());
    }
    Ok(engine.pods(&filter)?.iter().map(pod_sandbox).collect())
}

/// A filter by an unknown or ambiguous id lets nothing through.
pub(super) fn matching<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Err(fault) if matches!(fault.kind(), Kind::NotFound | Kind::Invalid) => Ok(None),
        found => found.map(Some),
    }
}
