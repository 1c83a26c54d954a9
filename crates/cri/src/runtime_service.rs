//! `RuntimeService`: takes each call to its lane and its answer back.

use std::sync::Arc;

use carrack_cri_proto::v1;
use carrack_cri_proto::v1::runtime_service_server::RuntimeService;
use carrack_engine::Engine;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::calls::{container, pod, runtime};
use crate::fault::Fault;
use crate::request::HostFacts;
use crate::workers::{Lane, Workers};

/// The service.
pub(crate) struct Runtime {
    engine: Arc<Engine>,
    workers: Workers,
    host: HostFacts,
}

impl Runtime {
    pub fn new(engine: Arc<Engine>, workers: Workers, host: HostFacts) -> Self {
        Self { engine, workers, host }
    }

    async fn call<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.engine.clone();
        self.workers.run(lane, move || work(&engine)).await
    }
}

/// The answer of an rpc that is not offered.
pub(crate) fn not_offered<T>(rpc: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{rpc} is not offered yet")))
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(runtime::version()))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let (request, host) = (request.into_inner(), self.host);
        self.call(Lane::Short, move |engine| runtime::status(engine, request, &host)).await.map(Response::new)
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Answer<v1::RuntimeConfigResponse> {
        Ok(Response::new(runtime::config()))
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let host = self.host;
        let id = self.call(Lane::Short, move |engine| pod::run(engine, request.get_ref(), &host)).await?;
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id.into() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        self.call(Lane::Stop, move |engine| pod::stop(engine, request.get_ref())).await?;
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        self.call(Lane::Stop, move |engine| pod::remove(engine, request.get_ref())).await?;
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        self.call(Lane::Short, move |engine| pod::status(engine, request.get_ref())).await.map(Response::new)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter;
        let items = self.call(Lane::Short, move |engine| pod::list(engine, filter.as_ref())).await?;
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let host = self.host;
        let id = self.call(Lane::Short, move |engine| container::create(engine, request.get_ref(), &host)).await?;
        Ok(Response::new(v1::CreateContainerResponse { container_id: id.into() }))
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        self.call(Lane::Short, move |engine| container::start(engine, request.get_ref())).await?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        self.call(Lane::Stop, move |engine| container::stop(engine, request.get_ref())).await?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        self.call(Lane::Stop, move |engine| container::remove(engine, request.get_ref())).await?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter;
        let containers = self.call(Lane::Short, move |engine| container::list(engine, filter.as_ref())).await?;
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        self.call(Lane::Short, move |engine| container::status(engine, request.get_ref())).await.map(Response::new)
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        self.call(Lane::Exec, move |engine| container::exec_sync(engine, request.get_ref())).await.map(Response::new)
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        self.call(Lane::Short, move |engine| container::reopen_log(engine, request.get_ref())).await?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    // What follows is not offered yet.

    async fn update_container_resources(
        &self,
        _: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        not_offered("UpdateContainerResources")
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        not_offered("UpdatePodSandboxResources")
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        not_offered("UpdateRuntimeConfig")
    }

    async fn exec(&self, _: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        not_offered("Exec")
    }

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        not_offered("Attach")
    }

    async fn port_forward(&self, _: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        not_offered("PortForward")
    }

    async fn container_stats(&self, _: Request<v1::ContainerStatsRequest>) -> Answer<v1::ContainerStatsResponse> {
        not_offered("ContainerStats")
    }

    async fn list_container_stats(
        &self,
        _: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        not_offered("ListContainerStats")
    }

    async fn pod_sandbox_stats(&self, _: Request<v1::PodSandboxStatsRequest>) -> Answer<v1::PodSandboxStatsResponse> {
        not_offered("PodSandboxStats")
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        not_offered("ListPodSandboxStats")
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        not_offered("CheckpointContainer")
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        not_offered("ListMetricDescriptors")
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        not_offered("ListPodSandboxMetrics")
    }

    type StreamPodSandboxesStream = BoxStream<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        _: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        not_offered("StreamPodSandboxes")
    }

    type StreamContainersStream = BoxStream<v1::StreamContainersResponse>;

    async fn stream_containers(&self, _: Request<v1::StreamContainersRequest>) -> Answer<Self::StreamContainersStream> {
        not_offered("StreamContainers")
    }

    type StreamContainerStatsStream = BoxStream<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        _: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        not_offered("StreamContainerStats")
    }

    type StreamPodSandboxStatsStream = BoxStream<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        not_offered("StreamPodSandboxStats")
    }

    type StreamPodSandboxMetricsStream = BoxStream<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        not_offered("StreamPodSandboxMetrics")
    }

    type GetContainerEventsStream = BoxStream<v1::ContainerEventResponse>;

    async fn get_container_events(&self, _: Request<v1::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        not_offered("GetContainerEvents")
    }
}
