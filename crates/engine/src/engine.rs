//! The engine: one object that every front end shares.
//!
//! It holds no state of its own beyond handles: the truth is on disk and in the kernel, so that any number of engines, in any number of
//! processes, work over the same directories.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use carrack_image::Images;
use carrack_network::{InterfaceName, Network, NetworkConfig, Subnet4, Subnet6};
use carrack_registry::{Registry, Settings};
use carrack_store::{Lock, Store};
use carrack_volume::Volumes;
use carrack_words::PodId;

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::pairing::pair;
use crate::recover::mark_beginning;
use crate::spec::HostFacts;
use crate::table::{Containers, Pods};

/// How long one operation on a pod waits for another one. A stop with a long grace period does not hold the lock meanwhile.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Pods, containers, exec and recovery over one store.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) boot_id: String,
    network: OnceLock<Network>,
    facts: OnceLock<HostFacts>,
}

impl Engine {
    /// Opens the engine over its directories, which are made if they are missing. Changes nothing on the host beside that.
    /// A root that is in use with another run directory is refused.
    pub fn open(config: EngineConfig) -> Result<Self, EngineError> {
        pair(&config.root, &config.run)?;
        mark_beginning(&config.run)?;
        for directory in
            [config.root.join("containers"), config.root.join("pods"), config.run.join("pods"), config.runtime_state()]
        {
            create_private_dir(&directory)?;
        }
        let store = Store::open(&config.root, &config.run)?;
        let settings = Settings::from_variables(|name| std::env::var(name).ok())
            .map_err(|error| EngineError::Invalid { message: crate::error::chain(&error) })?;
        let registry = Registry::new(settings).map_err(|error| EngineError::Invalid { message: error.to_string() })?;
        let images = Images::new(store.clone(), registry);
        let boot_file = "/proc/sys/kernel/random/boot_id";
        let boot_id = fs::read_to_string(boot_file).map_err(EngineError::io("read", boot_file))?.trim().to_owned();
        let volumes = Volumes::new(&config.root);
        Ok(Self { config, store, images, volumes, boot_id, network: OnceLock::new(), facts: OnceLock::new() })
    }

    /// Where this engine keeps its things.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The store under everything.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether the built-in network can be used, and if not why.
    pub fn network_ready(&self) -> Result<(), EngineError> {
        self.network().map(drop)
    }

    pub(crate) fn pods_table(&self) -> Pods<'_> {
        Pods::new(&self.store)
    }

    pub(crate) fn containers_table(&self) -> Containers<'_> {
        Containers::new(&self.store)
    }

    /// The only one at work on this pod until the lock is dropped, in this and all other processes.
    pub(crate) fn lock_pod(&self, pod: &PodId) -> Result<Lock, EngineError> {
        Ok(self.store.locks().acquire("pod", pod.as_str(), Instant::now() + LOCK_WAIT)?)
    }

    pub(crate) fn facts(&self) -> &HostFacts {
        self.facts.get_or_init(HostFacts::probe)
    }

    pub(crate) fn network(&self) -> Result<&Network, EngineError> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = Network::open(&self.config.run, network_config(&self.config)?)?;
        Ok(self.network.get_or_init(|| network))
    }
}

/// The default engine has the default network; one beside it gets a bridge and subnets told apart by its run directory.
fn network_config(config: &EngineConfig) -> Result<NetworkConfig, EngineError> {
    let default = NetworkConfig::default();
    let Some(hash) = config.cgroup_parent.strip_prefix("/carrack-") else { return Ok(default) };
    let number = u32::from_str_radix(hash, 16).expect("the parent was made of a hexadecimal number");
    let invalid = |error: carrack_network::ConfigError| EngineError::Invalid { message: error.to_string() };
    // 256 networks of 1022 addresses in 10.116.0.0/14.
    let address = std::net::Ipv4Addr::from(0x0a74_0000 + ((number % 256) << 10));
    let subnet4 = Subnet4::new(address, 22).map_err(invalid)?;
    let subnet6 = Subnet6::new([0xfdca, 0x44ac, 0x6b01, (number >> 16) as u16, number as u16, 0, 0, 0].into(), 96)
        .map_err(invalid)?;
    Ok(NetworkConfig {
        bridge: InterfaceName::new(format!("ck{hash}")).map_err(invalid)?,
        subnet4,
        subnet6: Some(subnet6),
        ..default
    })
}

/// Makes a directory, and its parents, that only root may enter (CVE-2021-41103).
pub(crate) fn create_private_dir(path: &std::path::Path) -> Result<(), EngineError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(EngineError::io("create", path))
}

/// Writes a file aside and renames it into place. Nothing is synced: what it is for does not outlive a power cut.
pub(crate) fn replace_file(path: &std::path::Path, content: &[u8]) -> Result<(), EngineError> {
    let aside: PathBuf = path.with_extension("new");
    fs::write(&aside, content).map_err(EngineError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(EngineError::io("replace", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_beside_the_default_one_get_networks_of_their_own() {
        let config = |parent: &str| EngineConfig {
            root: "/r".into(),
            run: "/x".into(),
            oci_program: "/o".into(),
            program: "/p".into(),
            cgroup_parent: parent.into(),
        };
        assert_eq!(network_config(&config("/carrack")).unwrap(), NetworkConfig::default());
        let [one, two] =
            ["/carrack-00000001", "/carrack-ffffffff"].map(|parent| network_config(&config(parent)).unwrap());
        assert_eq!(one.subnet4.network().to_string(), "10.116.4.0");
        assert_eq!(two.subnet4.network().to_string(), "10.119.252.0");
        assert_ne!(one.bridge, two.bridge);
    }
}
