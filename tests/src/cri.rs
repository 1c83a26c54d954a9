//! A CRI client, blocking, for tests and for the demonstration. It knows nothing of Carrack: any CRI socket will do.

use std::path::Path;
use std::time::Duration;

use carrack_cri_proto::v1 as proto;
use proto::image_service_client::ImageServiceClient;
use proto::runtime_service_client::RuntimeServiceClient;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A connection to a CRI server.
pub struct Cri {
    /// Drives the connection; without it the connection is closed.
    runtime: Option<Runtime>,
    channel: Channel,
}

impl std::fmt::Debug for Cri {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Cri")
    }
}

/// Messages of this size are what the kubelet allows.
const MESSAGE_LIMIT_BYTES: usize = 16 << 20;

impl Cri {
    /// Connects, and asks for the version, so that an answer means a working server.
    pub fn connect(socket: &Path) -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|error| error.to_string())?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(120));
        let channel = runtime.block_on(endpoint.connect()).map_err(|error| format!("{error:?}"))?;
        let cri = Self { runtime: Some(runtime), channel };
        cri.runtime(async |mut client| client.version(proto::VersionRequest { version: "0.1.0".into() }).await)
            .map_err(|status| status.to_string())?;
        Ok(cri)
    }

    /// Ends the connection. A server which is asked to end waits for its clients, for a while.
    pub fn close(&mut self) {
        self.runtime = None;
    }

    fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("nothing is called after close()").block_on(call)
    }

    /// Calls the RuntimeService.
    pub fn runtime<T>(
        &self,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        self.wait(call(client)).map(tonic::Response::into_inner)
    }

    /// Calls the ImageService.
    pub fn images<T>(
        &self,
        call: impl AsyncFnOnce(ImageServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        self.wait(call(client)).map(tonic::Response::into_inner)
    }

    /// Pulls, and returns the image's reference.
    pub fn pull(&self, image: &str) -> Result<String, Status> {
        let request = proto::PullImageRequest { image: Some(image_spec(image)), ..Default::default() };
        self.images(async |mut client| client.pull_image(request).await).map(|answer| answer.image_ref)
    }

    /// Makes a pod sandbox.
    pub fn run_pod(&self, config: &proto::PodSandboxConfig) -> Result<String, Status> {
        let request = proto::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        self.runtime(async |mut client| client.run_pod_sandbox(request).await).map(|answer| answer.pod_sandbox_id)
    }

    /// Makes a container in a pod.
    pub fn create(
        &self,
        pod: &str,
        config: proto::ContainerConfig,
        pod_config: &proto::PodSandboxConfig,
    ) -> Result<String, Status> {
        let request = proto::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(pod_config.clone()),
        };
        self.runtime(async |mut client| client.create_container(request).await).map(|answer| answer.container_id)
    }

    /// Starts a container.
    pub fn start(&self, container: &str) -> Result<(), Status> {
        let request = proto::StartContainerRequest { container_id: container.into() };
        self.runtime(async |mut client| client.start_container(request).await).map(drop)
    }

    /// Stops a container, with SIGKILL after `timeout` seconds.
    pub fn stop(&self, container: &str, timeout: i64) -> Result<(), Status> {
        let request = proto::StopContainerRequest { container_id: container.into(), timeout };
        self.runtime(async |mut client| client.stop_container(request).await).map(drop)
    }

    /// Removes a container.
    pub fn remove(&self, container: &str) -> Result<(), Status> {
        let request = proto::RemoveContainerRequest { container_id: container.into() };
        self.runtime(async |mut client| client.remove_container(request).await).map(drop)
    }

    /// Stops and removes a pod.
    pub fn remove_pod(&self, pod: &str) -> Result<(), Status> {
        let stop = proto::StopPodSandboxRequest { pod_sandbox_id: pod.into() };
        self.runtime(async |mut client| client.stop_pod_sandbox(stop).await)?;
        let remove = proto::RemovePodSandboxRequest { pod_sandbox_id: pod.into() };
        self.runtime(async |mut client| client.remove_pod_sandbox(remove).await).map(drop)
    }

    /// Runs a program in a container to its end; `timeout` in seconds, 0 for none.
    pub fn exec(&self, container: &str, command: &[&str], timeout: i64) -> Result<proto::ExecSyncResponse, Status> {
        let request = proto::ExecSyncRequest {
            container_id: container.into(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout,
        };
        self.runtime(async |mut client| client.exec_sync(request).await)
    }

    /// A container's status.
    pub fn status(&self, container: &str) -> Result<proto::ContainerStatus, Status> {
        let request = proto::ContainerStatusRequest { container_id: container.into(), verbose: false };
        let answer = self.runtime(async |mut client| client.container_status(request).await)?;
        Ok(answer.status.expect("an answer has a status"))
    }

    /// A pod's status.
    pub fn pod_status(&self, pod: &str) -> Result<proto::PodSandboxStatus, Status> {
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: false };
        let answer = self.runtime(async |mut client| client.pod_sandbox_status(request).await)?;
        Ok(answer.status.expect("an answer has a status"))
    }

    /// All containers.
    pub fn containers(&self) -> Result<Vec<proto::Container>, Status> {
        let request = proto::ListContainersRequest::default();
        self.runtime(async |mut client| client.list_containers(request).await).map(|answer| answer.containers)
    }

    /// All pods.
    pub fn pods(&self) -> Result<Vec<proto::PodSandbox>, Status> {
        let request = proto::ListPodSandboxRequest::default();
        self.runtime(async |mut client| client.list_pod_sandbox(request).await).map(|answer| answer.items)
    }

    /// All images.
    pub fn list_images(&self) -> Result<Vec<proto::Image>, Status> {
        let request = proto::ListImagesRequest::default();
        self.images(async |mut client| client.list_images(request).await).map(|answer| answer.images)
    }

    /// Removes an image.
    pub fn remove_image(&self, image: &str) -> Result<(), Status> {
        let request = proto::RemoveImageRequest { image: Some(image_spec(image)) };
        self.images(async |mut client| client.remove_image(request).await).map(drop)
    }
}

/// An image by name or id.
pub fn image_spec(image: &str) -> proto::ImageSpec {
    proto::ImageSpec { image: image.into(), ..Default::default() }
}

/// A pod as the kubelet would ask for it, with its logs in `log_directory`.
pub fn pod_config(name: &str, log_directory: &Path) -> proto::PodSandboxConfig {
    proto::PodSandboxConfig {
        metadata: Some(proto::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "tests".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: log_directory.to_string_lossy().into_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        linux: Some(proto::LinuxPodSandboxConfig {
            security_context: Some(proto::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container that runs `command`, with its log at `NAME.log`.
pub fn container_config(name: &str, image: &str, command: &[&str]) -> proto::ContainerConfig {
    proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(image_spec(image)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(proto::LinuxContainerConfig {
            security_context: Some(proto::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What the kubelet asks for where a pod says nothing: network and IPC are the pod's, processes the container's own.
fn namespaces() -> proto::NamespaceOption {
    proto::NamespaceOption {
        network: proto::NamespaceMode::Pod.into(),
        ipc: proto::NamespaceMode::Pod.into(),
        pid: proto::NamespaceMode::Container.into(),
        ..Default::default()
    }
}
