//! The way of an image into the store, once its source is known.
//!
//! ```text
//!  name ─▶ index ─▶ platform ─▶ manifest ─▶ configuration ─▶ layers, several at a time ─▶ settle, bottom first ─▶ record
//! ```
//!
//! One lease holds everything on the way, so that no collection takes it. The record is written last: before it there is no image.

use std::sync::Arc;

use carrack_layer::UnpackOptions;
use carrack_store::{Expected, Layer, Resource, Store};
use carrack_words::{ChainId, DiffId, Digest, ImageRef};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::{ImageConfig, parse_config};
use crate::document::{Document, Manifest, Offer, media_type_of, parse_document};
use crate::layer_fetch::{Brought, LayerPlan, bring, settle};
use crate::platform::choose;
use crate::progress::{Fan, PullEvent};
use crate::record::Record;
use crate::source::{Fetched, Source};
use crate::work::Work;
use crate::{FetchError, Platform};

/// Layers under way at once. More do not help one registry and one disk, and each holds a few MiB.
const LAYERS_AT_ONCE: usize = 4;
/// Indexes within indexes; the field has one level.
const DEEPEST_INDEX: usize = 4;

/// What is to be brought, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) image: ImageRef,
    /// Explicitly asked for; none means the host's, or whatever there is if there is only one.
    pub(crate) platform: Option<Platform>,
    pub(crate) unpack: Arc<UnpackOptions>,
    /// Under which names it is recorded, given the digest that the reference led to.
    pub(crate) names: fn(&ImageRef, &Digest) -> Vec<ImageRef>,
}

/// Brings an image into the store and returns its id. On an error that a repeat cannot mend, what came with it is removed again; otherwise whole
/// layers wait for the repeat until the next collection.
pub(crate) async fn run(store: Store, source: Source, errand: Errand, fan: Arc<Fan>) -> Result<Digest, FetchError> {
    let purpose = format!("pull {}", errand.image);
    let (for_start, fan_for_start) = (store.clone(), fan.clone());
    let start = move || Work::start(&for_start, &purpose, fan_for_start);
    let (work, at_work) = tokio::task::spawn_blocking(start).await.map_err(|_| FetchError::Interrupted)??;
    let result = bring_image(work, &source, &errand).await;
    // The work is given up above; what its threads had open is gone when they are.
    at_work.ended().await;
    if result.as_ref().is_err_and(|error| !error.is_transient()) {
        // The first error is the one to tell. What cannot be removed now goes with the next collection.
        let _ = tokio::task::spawn_blocking(move || store.gc()).await;
    }
    result
}

async fn bring_image(work: Work, source: &Source, errand: &Errand) -> Result<Digest, FetchError> {
    let resolved = resolve(&work, source, errand).await?;
    work.fan.tell(PullEvent::Resolved { digest: resolved.documents[0].digest });
    let plans = Arc::new(plan_layers(&resolved.manifest, &resolved.config)?);
    let layers = bring_layers(&work, source, &plans, &errand.unpack).await?;
    let id = resolved.manifest.config.digest;
    let (image, names) = (errand.image.clone(), errand.names);
    work.blocking(move |store, lease| {
        let blobs = store.blobs();
        for (digest, bytes) in resolved.blobs() {
            if blobs.claim(lease, &digest)?.is_none() {
                blobs.put(lease, bytes, &Expected { digest, size_bytes: Some(bytes.len() as u64) })?;
            }
        }
        let top = &resolved.documents[0];
        let record = Record::new(&resolved.manifest_digest(), &resolved.config_bytes, &plans, &layers)?;
        let mut resources: Vec<Resource> = resolved.blobs().map(|(digest, _)| Resource::Blob(digest)).collect();
        resources.extend(layers.iter().map(|layer| Resource::Layer(layer.key)));
        for plan in plans.iter() {
            // A layer that was there already may have come in another compression.
            resources.extend(blobs.stat(&plan.blob.digest)?.map(|blob| Resource::Blob(blob.digest)));
        }
        for name in names(&image, &top.digest) {
            let row = record.row(&name, top.digest, top.bytes.len() as u64, &resolved.media_type, id);
            store.images().put(&row, &resources)?;
        }
        Ok(())
    })
    .await?;
    work.fan.tell(PullEvent::Done { id });
    Ok(id)
}

/// Everything about an image but its layers.
struct Resolved {
    /// What the name led to, and what that led to, the manifest last.
    documents: Vec<Fetched>,
    /// The type of the first of them.
    media_type: String,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
}

impl Resolved {
    fn manifest_digest(&self) -> Digest {
        self.documents[self.documents.len() - 1].digest
    }

    fn blobs(&self) -> impl Iterator<Item = (Digest, &[u8])> {
        let documents = self.documents.iter().map(|document| (document.digest, &document.bytes[..]));
        documents.chain([(self.manifest.config.digest, &self.config_bytes[..])])
    }
}

async fn resolve(work: &Work, source: &Source, errand: &Errand) -> Result<Resolved, FetchError> {
    let wanted = errand.platform.clone().unwrap_or_else(Platform::host);
    let mut documents = vec![source.top(work, &errand.image, &wanted).await?];
    let mut media_type = None;
    loop {
        let current = &documents[documents.len() - 1];
        let digest = current.digest;
        let parsed = parse_document(&current.bytes, current.announced.as_deref())
            .map_err(|source| FetchError::Document { digest, source })?;
        let media_type =
            media_type.get_or_insert_with(|| media_type_of(&current.bytes, current.announced.as_deref(), &parsed));
        let offers = match parsed {
            Document::Index(offers) => offers,
            Document::Manifest(manifest) => {
                let config_bytes = source.config(work, manifest.config).await?;
                let config = parse_config(&config_bytes)?;
                // Nobody asked for a platform and there is only this image: take it, as others do; many configurations are sloppy about it.
                if let Some(wanted) =
                    errand.platform.as_ref().filter(|wanted| wanted.distance(&config.platform).is_none())
                {
                    return Err(FetchError::WrongPlatform {
                        wanted: Box::new(wanted.clone()),
                        got: Box::new(config.platform),
                    });
                }
                let media_type = media_type.clone();
                return Ok(Resolved { documents, media_type, manifest, config_bytes, config });
            }
        };
        if documents.len() == DEEPEST_INDEX {
            return Err(FetchError::TooDeep { limit: DEEPEST_INDEX - 1 });
        }
        let offer = choose(&wanted, offers.iter().map(|offer| (offer.platform.clone(), offer)))
            .ok_or_else(|| FetchError::NoPlatform { wanted: wanted.clone(), offered: list(&offers) })?;
        let chosen = offer.digest().map_err(|source| FetchError::Document { digest, source })?;
        let next = source.document(work, chosen).await?;
        let got_bytes = next.bytes.len() as u64;
        if got_bytes != offer.size_bytes {
            return Err(FetchError::DocumentSize { digest: chosen, got_bytes, want_bytes: offer.size_bytes });
        }
        documents.push(next);
    }
}

fn list(offers: &[Offer]) -> String {
    let mut all: Vec<String> =
        offers.iter().filter_map(|offer| offer.platform.as_ref()).map(Platform::to_string).collect();
    all.dedup();
    let shown = all.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    if shown.is_empty() { "no named platform".to_owned() } else { shown }
}

/// Pairs the manifest's layers with the configuration's digests.
fn plan_layers(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<LayerPlan>, FetchError> {
    if manifest.layers.len() != config.diff_ids.len() {
        return Err(FetchError::LayerCount { layers: manifest.layers.len(), diff_ids: config.diff_ids.len() });
    }
    let mut chain: Option<Digest> = None;
    let plan = |(blob, diff_id): (_, &Digest)| {
        let is_bottom = chain.is_none();
        let chain_id =
            chain.map_or(*diff_id, |below| Digest::from_sha256(Sha256::digest(format!("{below} {diff_id}")).into()));
        chain = Some(chain_id);
        LayerPlan { blob, diff_id: DiffId(*diff_id), chain_id: ChainId(chain_id), is_bottom }
    };
    Ok(manifest.layers.iter().copied().zip(&config.diff_ids).map(plan).collect())
}

/// Brings all layers, bottom first in the answer.
async fn bring_layers(
    work: &Work,
    source: &Source,
    plans: &Arc<Vec<LayerPlan>>,
    options: &Arc<UnpackOptions>,
) -> Result<Vec<Layer>, FetchError> {
    let mut seen = std::collections::HashSet::new();
    for plan in plans.iter().filter(|plan| seen.insert(plan.blob.digest)) {
        work.fan.tell(PullEvent::LayerQueued { digest: plan.blob.digest, size_bytes: plan.blob.size_bytes });
    }
    let permits = Arc::new(Semaphore::new(LAYERS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for (at, plan) in plans.iter().copied().enumerate() {
        let (work, source, options, permits) = (work.clone(), source.clone(), options.clone(), permits.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.map_err(|_| FetchError::Interrupted)?;
            Ok((at, bring(&work, &source, plan, options).await?))
        });
    }
    let mut brought: Vec<Option<Brought>> = plans.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok((at, layer))) => brought[at] = Some(layer),
            // Dropping the set ends the others.
            Ok(Err(error)) => return Err(error),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(FetchError::Interrupted),
        }
    }
    let (plans, options, fan) = (plans.clone(), options.clone(), work.fan.clone());
    work.blocking(move |store, _| settle_all(store, &fan, brought, &plans, &options)).await
}

fn settle_all(
    store: &Store,
    fan: &Fan,
    brought: Vec<Option<Brought>>,
    plans: &[LayerPlan],
    options: &UnpackOptions,
) -> Result<Vec<Layer>, FetchError> {
    let mut layers = Vec::with_capacity(plans.len());
    for (brought, plan) in brought.into_iter().zip(plans) {
        let layer = match brought.expect("every task has ended well, so every place is filled") {
            Brought::Ready(layer) => layer,
            Brought::Unsettled(unsettled) => {
                let layer = settle(store, &layers, *unsettled, plan, options)?;
                fan.tell(PullEvent::LayerUnpacked { digest: plan.blob.digest });
                layer
            }
        };
        layers.push(layer);
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::BlobInfo;

    #[test]
    fn chain_ids_follow_the_specification() {
        let digest = |n| Digest::from_sha256([n; 32]);
        let blob = |n| BlobInfo { digest: digest(n), size_bytes: 1 };
        let manifest = Manifest { config: blob(0), layers: vec![blob(1), blob(2)] };
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            digest(3),
            digest(4)
        );
        let config = parse_config(text.as_bytes()).unwrap();
        let second = Digest::from_sha256(Sha256::digest(format!("{} {}", digest(3), digest(4))).into());
        let plan = |n, diff, chain, is_bottom| LayerPlan {
            blob: blob(n),
            diff_id: DiffId(diff),
            chain_id: ChainId(chain),
            is_bottom,
        };
        assert_eq!(
            plan_layers(&manifest, &config).unwrap(),
            [plan(1, digest(3), digest(3), true), plan(2, digest(4), second, false)]
        );
        let one_less = Manifest { layers: vec![blob(1)], ..manifest };
        let error = plan_layers(&one_less, &config).unwrap_err();
        assert_eq!(error.to_string(), "the manifest lists layers: 1, and the configuration: 2");
    }
}
