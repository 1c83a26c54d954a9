//! Calls about containers.

use std::collections::BTreeMap;

use carrack_cri_proto::v1;
use carrack_engine::view::{ContainerView, Phase};
use carrack_engine::{Engine, Force};
use carrack_words::ContainerId;

use super::pod::matching;
use super::{container_id, done_or_gone, if_there, pod_id};
use crate::fault::Fault;
use crate::request::{
    ContainerQuery, HostFacts, container_query, container_request, exec_request, exec_timeout, image_name, stop_timeout,
};
use crate::server::MAX_MESSAGE_BYTES;
use crate::status::{container, container_state, container_status, exec_sync_response};

/// Makes the container; a repeat of the request that made it finds it.
pub(crate) fn create(
    engine: &Engine,
    request: &v1::CreateContainerRequest,
    host: &HostFacts,
) -> Result<ContainerId, Fault> {
    let pod = engine.pod(&pod_id(engine, &request.pod_sandbox_id)?)?;
    let spec = request.config.as_ref().and_then(|config| config.image.as_ref());
    let image = engine.find_image(&image_name(spec, "config.image")?)?;
    let wanted = container_request(request, &pod.request, image.id, host)?;
    Ok(engine.create_container(&pod.id, wanted)?)
}

/// Starts it.
pub(crate) fn start(engine: &Engine, request: &v1::StartContainerRequest) -> Result<(), Fault> {
    Ok(engine.start_container(&container_id(engine, &request.container_id)?)?)
}

/// Stops it, if it is there.
pub(crate) fn stop(engine: &Engine, request: &v1::StopContainerRequest) -> Result<(), Fault> {
    let Some(id) = if_there(container_id(engine, &request.container_id))? else { return Ok(()) };
    done_or_gone(engine.stop_container(&id, Some(stop_timeout(request.timeout))), || engine.container(&id))
}

/// Removes it, if it is there; one that runs is killed.
pub(crate) fn remove(engine: &Engine, request: &v1::RemoveContainerRequest) -> Result<(), Fault> {
    let Some(id) = if_there(container_id(engine, &request.container_id))? else { return Ok(()) };
    done_or_gone(engine.remove_container(&id, Force::Yes), || engine.container(&id))
}

/// The containers that the filter lets through.
pub(crate) fn list(engine: &Engine, filter: Option<&v1::ContainerFilter>) -> Result<Vec<v1::Container>, Fault> {
    let ContainerQuery { id, pod, state, mut filter } = container_query(filter)?;
    if let Some(text) = id {
        let Some(id) = matching(container_id(engine, &text))? else { return Ok(Vec::new()) };
        filter.id = Some(id.to_string());
    }
    if let Some(text) = pod {
        let Some(pod) = matching(pod_id(engine, &text))? else { return Ok(Vec::new()) };
        filter.pod = Some(pod);
    }
    let in_state = |found: &ContainerView| state.is_none_or(|wanted| container_state(&found.phase) == wanted);
    Ok(engine.containers(&filter)?.iter().filter(|found| in_state(found)).map(container).collect())
}

/// Tells of one container.
pub(crate) fn status(
    engine: &Engine,
    request: &v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Fault> {
    let found = engine.container(&container_id(engine, &request.container_id)?)?;
    // The image may have been removed since, by force.
    let image = if_there(engine.find_image(&found.image.to_string()).map_err(Fault::from))?;
    let image_ref = image.and_then(|image| image.repo_digests.first().map(ToString::to_string));
    let info = if request.verbose { verbose(engine, &found)? } else { BTreeMap::new() };
    Ok(v1::ContainerStatusResponse { status: Some(container_status(&found, image_ref)), info })
}

/// One JSON object under the key `info`, with the names that debugging tools look for.
fn verbose(engine: &Engine, found: &ContainerView) -> Result<BTreeMap<String, String>, Fault> {
    let pid = match &found.phase {
        Phase::Running { process, .. } => process.pid,
        Phase::Created | Phase::Restarting { .. } | Phase::Exited(_) | Phase::Unknown => 0,
    };
    let fail = |source| Fault::Verbose { id: found.id.to_string(), source };
    // There is none before the start.
    let config = engine.resolved_config(&found.id)?;
    let config: Option<serde_json::Value> = config.as_deref().map(serde_json::from_str).transpose().map_err(fail)?;
    let text = serde_json::to_string(&serde_json::json!({
        "sandboxID": found.pod,
        "pid": pid,
        "runtimeSpec": config,
        "container": found,
    }));
    Ok(BTreeMap::from([("info".to_owned(), text.map_err(fail)?)]))
}

/// Runs a program in it and waits for its end.
pub(crate) fn exec_sync(engine: &Engine, request: &v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Fault> {
    let program = exec_request(&request.cmd)?;
    let timeout = exec_timeout(request.timeout)?;
    let id = container_id(engine, &request.container_id)?;
    let output = engine.exec_sync(&id, program, timeout, MAX_MESSAGE_BYTES)?;
    Ok(exec_sync_response(output, MAX_MESSAGE_BYTES))
}

/// Continues its log in a new file at the same path.
pub(crate) fn reopen_log(engine: &Engine, request: &v1::ReopenContainerLogRequest) -> Result<(), Fault> {
    Ok(engine.reopen_log(&container_id(engine, &request.container_id)?)?)
}
