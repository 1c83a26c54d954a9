//! `ImageService`.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_cri_proto::v1;
use carrack_cri_proto::v1::image_service_server::ImageService;
use carrack_engine::{Engine, Force, RemoveNames};
use carrack_image::PullOptions;
use carrack_registry::{AuthConfig, CredentialSource, Credentials, Secret};
use carrack_words::{ImageRef, Kind, Timestamp};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::fault::{Fault, chain};
use crate::request::image_name;
use crate::runtime_service::not_offered;
use crate::status::{filesystem_usage, image};
use crate::workers::{Lane, Workers};

/// The service.
pub(crate) struct Images {
    engine: Arc<Engine>,
    workers: Workers,
}

impl Images {
    pub fn new(engine: Arc<Engine>, workers: Workers) -> Self {
        Self { engine, workers }
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.engine.clone();
        self.workers.run(Lane::Short, move || work(&engine)).await
    }

    /// If the caller goes away this future is dropped, and the pull with it, unless others wait for the same image.
    async fn pull(&self, request: v1::PullImageRequest) -> Result<v1::PullImageResponse, Fault> {
        let name = image_name(request.image.as_ref(), "image")?;
        let reference: ImageRef = name.parse()?;
        let options = PullOptions { credentials: credentials(request.auth, &reference)?, ..Default::default() };
        match self.engine.images().pull(&reference, options, Arc::new(())).await {
            Ok(image) => {
                self.sync_in_background();
                Ok(v1::PullImageResponse { image_ref: image.id.to_string() })
            }
            Err(source) if source.kind() == Kind::Unavailable => {
                Err(Fault::RegistryUnavailable { image: name, source })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A new image can be used at once; that it outlives a power cut takes as long as the disk needs.
    fn sync_in_background(&self) {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.store().promote() {
                // The image is made anew if the power goes before somebody succeeds.
                tracing::warn!(error = chain(&error), "sync the image store");
            }
        });
    }
}

/// Whoever says nothing gets what the node itself is logged in with.
fn credentials(auth: Option<v1::AuthConfig>, image: &ImageRef) -> Result<CredentialSource, Fault> {
    let Some(auth) = auth else { return Ok(CredentialSource::DockerConfig) };
    let auth = AuthConfig {
        username: auth.username,
        password: Secret::new(auth.password),
        auth: Secret::new(auth.auth),
        server_address: auth.server_address,
        identity_token: Secret::new(auth.identity_token),
        registry_token: Secret::new(auth.registry_token),
    };
    Ok(CredentialSource::Explicit(Credentials::from_auth_config(&auth, image.registry())?))
}

/// The image of this name, id or id prefix; `None` if there is none, or if the text can name none.
fn find(engine: &Engine, name: &str) -> Result<Option<carrack_image::Image>, Fault> {
    match engine.find_image(name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn list(engine: &Engine, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Fault> {
    let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default();
    let found = if wanted.is_empty() { engine.images().list()? } else { find(engine, &wanted)?.into_iter().collect() };
    Ok(found.iter().map(image).collect())
}

fn status(engine: &Engine, request: &v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse, Fault> {
    let Some(found) = find(engine, &image_name(request.image.as_ref(), "image")?)? else {
        return Ok(v1::ImageStatusResponse::default());
    };
    let info = if request.verbose { verbose(&found)? } else { BTreeMap::new() };
    Ok(v1::ImageStatusResponse { image: Some(image(&found)), info })
}

/// One JSON object under the key `info`, with the names that debugging tools look for.
fn verbose(found: &carrack_image::Image) -> Result<BTreeMap<String, String>, Fault> {
    let run = found.run_defaults();
    let layers: Vec<String> = found.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let text = serde_json::to_string(&serde_json::json!({
        "manifest": found.manifest_digest,
        "compressedBytes": found.compressed_bytes,
        "unpackedBytes": found.unpacked_bytes,
        "imageSpec": {
            "created": found.created.map(|created| created.to_string()),
            "architecture": found.platform.architecture,
            "variant": found.platform.variant,
            "os": found.platform.os,
            "config": {
                "User": run.user,
                "ExposedPorts": run.exposed_ports,
                "Env": run.env,
                "Entrypoint": run.entrypoint,
                "Cmd": run.cmd,
                "Volumes": run.volumes,
                "WorkingDir": run.working_dir,
                "Labels": run.labels,
                "StopSignal": run.stop_signal,
            },
            "rootfs": { "type": "layers", "diff_ids": layers },
        },
    }));
    let text = text.map_err(|source| Fault::Verbose { id: found.id.to_string(), source })?;
    Ok(BTreeMap::from([("info".to_owned(), text)]))
}

/// By whatever name, the image goes with all its names. One that is gone, also since a moment, is removed.
fn remove(engine: &Engine, request: &v1::RemoveImageRequest) -> Result<(), Fault> {
    let name = image_name(request.image.as_ref(), "image")?;
    let Some(found) = find(engine, &name)? else { return Ok(()) };
    match engine.remove_image(&found.id.to_string(), RemoveNames::All, Force::No) {
        Err(error) if error.kind() == Kind::NotFound && find(engine, &name)?.is_none() => Ok(()),
        removed => Ok(removed.map(drop)?),
    }
}

fn fs_info(engine: &Engine) -> Result<v1::ImageFsInfoResponse, Fault> {
    let usage = engine.disk_usage()?;
    let now = Timestamp::now();
    let images = filesystem_usage(&usage.root, usage.images_bytes, usage.images_inodes, now);
    let containers = filesystem_usage(&usage.root, usage.containers_bytes, usage.containers_inodes, now);
    Ok(v1::ImageFsInfoResponse { image_filesystems: vec![images], container_filesystems: vec![containers] })
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl ImageService for Images {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let filter = request.into_inner().filter;
        let images = self.call(move |engine| list(engine, filter)).await?;
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        self.call(move |engine| status(engine, request.get_ref())).await.map(Response::new)
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        Ok(Response::new(self.pull(request.into_inner()).await?))
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        self.call(move |engine| remove(engine, request.get_ref())).await?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        self.call(fs_info).await.map(Response::new)
    }

    type StreamImagesStream = BoxStream<v1::StreamImagesResponse>;

    async fn stream_images(&self, _: Request<v1::StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        not_offered("StreamImages")
    }
}
