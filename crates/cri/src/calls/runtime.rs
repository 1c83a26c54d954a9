//! Calls about the engine itself.

use std::collections::BTreeMap;

use carrack_cri_proto::v1;
use carrack_engine::Engine;
use carrack_engine::request::PodFilter;

use crate::fault::{Fault, chain};
use crate::request::HostFacts;
use crate::status::{condition, runtime_features, runtime_handlers};

/// The kubelet's version of this interface's first life, which every runtime still answers.
const KUBELET_RUNTIME_API_VERSION: &str = "0.1.0";
const NAME: &str = "carrack";
const API_VERSION: &str = "v1";

/// Whatever version the caller names: there is one.
pub(crate) fn version() -> v1::VersionResponse {
    v1::VersionResponse {
        version: KUBELET_RUNTIME_API_VERSION.into(),
        runtime_name: NAME.into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: API_VERSION.into(),
    }
}

/// Whether pods can be run here, and what is offered.
pub(crate) fn status(
    engine: &Engine,
    request: v1::StatusRequest,
    host: &HostFacts,
) -> Result<v1::StatusResponse, Fault> {
    let network = engine.network_ready().map_err(|error| chain(&error));
    let conditions = vec![condition("RuntimeReady", runtime_ready(engine)), condition("NetworkReady", network)];
    let info = if request.verbose { verbose(engine, host)? } else { BTreeMap::new() };
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info,
        runtime_handlers: runtime_handlers(host),
        features: Some(runtime_features()),
    })
}

/// The store answers and the low-level runtime is in its place.
fn runtime_ready(engine: &Engine) -> Result<(), String> {
    let nothing = PodFilter { labels: BTreeMap::from([(String::new(), String::new())]), ..Default::default() };
    engine.pods(&nothing).map_err(|error| chain(&error))?;
    let program = &engine.config().oci_program;
    match std::fs::metadata(program) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(format!("{} is not a program", program.display())),
        Err(error) => Err(format!("look for the runtime {}: {error}", program.display())),
    }
}

fn verbose(engine: &Engine, host: &HostFacts) -> Result<BTreeMap<String, String>, Fault> {
    let config = engine.config();
    let text = serde_json::to_string(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "root": config.root,
        "run": config.run,
        "runtime": config.oci_program,
        "cgroupParent": config.cgroup_parent,
        "cgroupDriver": v1::CgroupDriver::Cgroupfs.as_str_name(),
        "apparmor": host.apparmor,
        "selinux": host.selinux,
        "recursiveReadOnlyMounts": host.recursive_readonly,
    }));
    let text = text.map_err(|source| Fault::Verbose { id: NAME.into(), source })?;
    Ok(BTreeMap::from([("config".to_owned(), text)]))
}

/// Cgroups are made directly, not through systemd.
pub(crate) fn config() -> v1::RuntimeConfigResponse {
    let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
    v1::RuntimeConfigResponse { linux: Some(linux) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_version_fields_are_there() {
        let version = version();
        assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
        assert_eq!(version.runtime_name, "carrack");
        assert!(!version.runtime_version.is_empty());
    }

    #[test]
    fn the_cgroup_driver_is_told() {
        let told = config().linux.map(|linux| linux.cgroup_driver());
        assert_eq!(told, Some(v1::CgroupDriver::Cgroupfs));
    }
}
