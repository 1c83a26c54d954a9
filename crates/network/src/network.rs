//! The built-in network of one engine: its pods come and go here.
//!
//! Attaching is a row of steps, each undone by [`Network::detach`]; the record of what is about to be done is written before the kernel
//! is asked for anything, so that whatever a crash leaves behind is found by name.
//!
//! All is synchronous. Several processes may work on one network at once; but one pod is one caller's at a time (the engine's lock
//! on the pod sees to it).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use carrack_words::PodId;

use crate::claim::Claims;
use crate::host::{Bridge, Host, kernel, mac};
use crate::lease::Leases;
use crate::route;
use crate::state::{NamespaceId, Record, Stage, State, absent_is_fine, file_error};
use crate::wire::{self, host_interface};
use crate::{
    AttachRequest, Attached, Attachment, Change, InterfaceAddress, NetworkConfig, NetworkError, PortMapping, flow,
    setting,
};
use carrack_netlink::{Pool, Socket};

/// The built-in network, in the network namespace of the thread that uses it first.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    state: State,
    owner: PathBuf,
    sockets: Pool,
}

impl Network {
    /// Opens the network whose volatile state is under `run_dir/network`; changes nothing on the host but making that directory.
    pub fn open(run_dir: &Path, config: NetworkConfig) -> Result<Self, NetworkError> {
        let state = State::open(run_dir)?;
        let owner = fs::canonicalize(run_dir).map_err(file_error("resolve", run_dir))?;
        let subnet6 = if setting::host_has_ipv6()? { config.subnet6 } else { None };
        Ok(Self { config: NetworkConfig { subnet6, ..config }, state, owner, sockets: Pool::default() })
    }

    fn host(&self) -> Host<'_> {
        Host { config: &self.config, state: &self.state, owner: &self.owner, sockets: &self.sockets }
    }

    fn leases(&self) -> Leases<'_> {
        Leases { state: &self.state, subnet: self.config.subnet4 }
    }

    /// Makes bridge, rules and settings where they are missing, and says what was changed; published ports come back with the rules.
    /// [`Self::attach`] does this by itself where bridge, rules or forwarding are missing. A daemon may repeat it now and then to heal what
    /// somebody else took away, and to pass a firewall that was set up later.
    pub fn ensure(&self) -> Result<Vec<Change>, NetworkError> {
        let links = Socket::route().map_err(kernel("look at the host's interfaces"))?;
        self.host().ensure(&links, &self.state.lock()?).map(|(_, changes)| changes)
    }

    fn ensured(&self, links: &Socket) -> Result<(Bridge, Vec<Change>), NetworkError> {
        let host = self.host();
        if let Some(bridge) = host.find(links)? {
            return Ok((bridge, Vec::new()));
        }
        host.ensure(links, &self.state.lock()?)
    }

    /// Gives the pod's namespace an interface on the bridge, addresses, routes, and its published ports. A repeat gives the first
    /// one's result. A failure leaves nothing behind.
    ///
    /// Callers may want to tell apart: [`NetworkError::PortTaken`], [`NetworkError::NoAddressLeft`], [`NetworkError::SubnetInUse`].
    pub fn attach(&self, request: &AttachRequest) -> Result<Attached, NetworkError> {
        let enter = |source| NetworkError::Netns { path: request.netns.clone(), source };
        let namespace = File::open(&request.netns).map_err(enter)?;
        let facts = namespace.metadata().map_err(enter)?;
        let id = NamespaceId { device: facts.dev(), inode: facts.ino() };
        let links = Socket::route().map_err(kernel("look at the host's interfaces"))?;
        if let Some(attachment) = self.earlier(request, id, &links)? {
            return Ok(Attached { attachment, changes: Vec::new() });
        }
        let (bridge, changes) = self.ensured(&links)?;
        match self.attach_anew(request, &namespace, id, bridge, &links) {
            Ok(attachment) => Ok(Attached { attachment, changes }),
            Err(error) => {
                // The failure that began it is the one to tell; what cannot be undone now names its pod and is found by reconciliation.
                let _ = self.undo(&request.id, &links);
                Err(error)
            }
        }
    }

    /// The result of an earlier call for this pod, if it stands; what does not stand is removed.
    fn earlier(
        &self,
        request: &AttachRequest,
        id: NamespaceId,
        links: &Socket,
    ) -> Result<Option<Attachment>, NetworkError> {
        let Some((stage, record)) = self.state.record(&request.id)? else { return Ok(None) };
        let name = record.attachment.host_interface.as_str();
        let stands = stage == Stage::Attached
            && record.namespace == id
            && route::link_named(links, name).map_err(kernel(format!("look up {name}")))?.is_some();
        if !stands {
            self.undo(&request.id, links)?;
            return Ok(None);
        }
        let same_ports = record.attachment.ports.len() == request.ports.len()
            && record.attachment.ports.iter().zip(&request.ports).all(|(has, wants)| {
                let any = wants.host_port == 0;
                *has == *wants || any && PortMapping { host_port: 0, ..*has } == *wants
            });
        if !same_ports || record.attachment.interface != request.interface {
            return Err(NetworkError::OtherAttachment { pod: request.id.clone() });
        }
        Ok(Some(record.attachment))
    }

    fn attach_anew(
        &self,
        request: &AttachRequest,
        namespace: &File,
        id: NamespaceId,
        bridge: Bridge,
        links: &Socket,
    ) -> Result<Attachment, NetworkError> {
        let host = self.host();
        let index = self.leases().take(&request.id)?;
        let mut attachment = self.plan(request, index, bridge);
        if !request.ports.is_empty() {
            let lock = self.state.lock()?;
            let claims = Claims { state: &self.state, _lock: &lock };
            attachment.ports = claims.take(&request.id, &request.ports, host.families())?;
        }
        let record = Record::new(request.id.clone(), id, index, attachment);
        self.state.begin(&record)?;
        let inside = wire::enter(&request.netns, namespace)?;
        wire::connect(&record.attachment, bridge, &inside, links)?;
        if !record.attachment.ports.is_empty() {
            wire::make_hairpin(&record.attachment.host_interface, links)?;
            host.publish(&record, &self.state.lock()?)?;
            flow::forget(&self.sockets, &record.attachment.ports)
                .map_err(kernel("forget connections of newly published ports"))?;
        }
        self.state.finish(&request.id)?;
        Ok(record.attachment)
    }

    /// Decides what the pod gets.
    fn plan(&self, request: &AttachRequest, index: u32, bridge: Bridge) -> Attachment {
        let subnet4 = self.config.subnet4;
        let ip = subnet4.at(index);
        let mut addresses =
            vec![InterfaceAddress { ip: ip.into(), prefix: subnet4.prefix(), gateway: subnet4.gateway().into() }];
        addresses.extend(self.config.subnet6.map(|subnet6| InterfaceAddress {
            ip: subnet6.at(index).into(),
            prefix: subnet6.prefix(),
            gateway: subnet6.gateway().into(),
        }));
        Attachment {
            interface: request.interface.clone(),
            mac: mac(0x02, ip.octets()),
            mtu: bridge.mtu,
            host_interface: host_interface(ip),
            addresses,
            ports: Vec::new(),
        }
    }

    /// What the pod has; `None`: it is not attached.
    pub fn attachment(&self, id: &PodId) -> Result<Option<Attachment>, NetworkError> {
        let record = self.state.record(id)?;
        Ok(record.and_then(|(stage, record)| (stage == Stage::Attached).then_some(record.attachment)))
    }

    /// Takes back the pod's ports and then its address. Its interface goes with its namespace: removing it here would cost 16 ms,
    /// and no address is handed out again soon. Detaching what is not attached succeeds.
    pub fn detach(&self, id: &PodId) -> Result<(), NetworkError> {
        match self.state.record(id)? {
            Some((_, record)) => self.detach_recorded(&record),
            None => self.detach_unrecorded(id),
        }
    }

    fn detach_recorded(&self, record: &Record) -> Result<(), NetworkError> {
        let host = self.host();
        let ports = &record.attachment.ports;
        if ports.is_empty() {
            self.state.forget(&record.pod)?;
        } else {
            // Under one lock: whoever makes the rules anew meanwhile either finds the record, before, or does not, after.
            let lock = self.state.lock()?;
            host.unpublish(record)?;
            Claims { state: &self.state, _lock: &lock }.release(ports, host.families())?;
            self.state.forget(&record.pod)?;
        }
        self.leases().release(record.index)?;
        flow::forget(&self.sockets, ports).map_err(kernel(format!("forget connections of pod {}", record.pod)))
    }

    /// An attempt that ended before it was recorded may have left an address or ports.
    fn detach_unrecorded(&self, id: &PodId) -> Result<(), NetworkError> {
        let lock = self.state.lock()?;
        let claims = Claims { state: &self.state, _lock: &lock };
        let claimed: Vec<PortMapping> =
            claims.all()?.into_iter().filter(|(_, pod)| pod == id).map(|(port, _)| port).collect();
        claims.release(&claimed, self.host().families())?;
        self.state.forget(id)?;
        for (index, _) in self.leases().all()?.iter().filter(|(_, pod)| pod == id) {
            self.leases().release(*index)?;
        }
        Ok(())
    }

    /// Like [`Self::detach`], and removes the interface at once: the namespace may live on.
    fn undo(&self, id: &PodId, links: &Socket) -> Result<(), NetworkError> {
        let removed = match self.state.record(id)? {
            Some((_, record)) => wire::disconnect(&record.attachment.host_interface, links),
            None => Ok(()),
        };
        self.detach(id).and(removed)
    }

    /// Detaches every pod for which `is_live` says no, and removes what no pod owns. Returns the pods that were detached.
    ///
    /// The pods are listed first and asked about afterwards: so a pod whose existence is on record before it is attached is never
    /// taken for dead, though it be attached by another process at this very moment. `is_live` must look at the present
    /// records, not at a list made earlier. Goes on after failures and reports them all.
    pub fn reconcile(&self, mut is_live: impl FnMut(&PodId) -> bool) -> Result<Vec<PodId>, NetworkError> {
        let mut failures = Vec::new();
        let mut detached = Vec::new();
        for pod in self.known_pods()? {
            if !is_live(&pod) {
                match self.detach(&pod) {
                    Ok(()) => detached.push(pod),
                    Err(error) => failures.push(error),
                }
            }
        }
        failures.extend(self.release_doubled_leases().err());
        failures.extend(self.sweep().err());
        if failures.is_empty() { Ok(detached) } else { Err(NetworkError::CleanUp { failures }) }
    }

    fn sweep(&self) -> Result<(), NetworkError> {
        let lock = self.state.lock()?;
        Claims { state: &self.state, _lock: &lock }.sweep()?;
        self.host().sweep_elements(&lock)
    }

    /// All pods that any file names.
    fn known_pods(&self) -> Result<BTreeSet<PodId>, NetworkError> {
        let mut pods: BTreeSet<PodId> = self.state.recorded_pods()?.into_iter().collect();
        pods.extend(self.leases().all()?.into_iter().map(|(_, pod)| pod));
        let lock = self.state.lock()?;
        let claims = Claims { state: &self.state, _lock: &lock }.all()?;
        pods.extend(claims.into_iter().map(|(_, pod)| pod));
        Ok(pods)
    }

    /// A pod whose first attempt ended before it was recorded has a second address besides that of its record.
    fn release_doubled_leases(&self) -> Result<(), NetworkError> {
        for (index, pod) in self.leases().all()? {
            if self.state.record(&pod)?.is_some_and(|(_, record)| record.index != index) {
                self.leases().release(index)?;
            }
        }
        Ok(())
    }

    /// Removes everything from the host: attachments, rules, bridge, state; and puts kernel settings back. Goes on after failures
    /// and reports them all. Nobody may attach pods meanwhile.
    pub fn teardown(&self) -> Result<(), NetworkError> {
        let mut failures: Vec<NetworkError> = self.reconcile(|_| false).err().into_iter().collect();
        let links = Socket::route().map_err(kernel("look at the host's interfaces"))?;
        let lock = self.state.lock()?;
        failures.extend(self.host().remove(&links, &lock).err());
        if failures.is_empty() {
            let root = self.state.path("");
            absent_is_fine(fs::remove_dir_all(&root)).map_err(file_error("remove", &root))?;
            return Ok(());
        }
        Err(NetworkError::CleanUp { failures })
    }
}
