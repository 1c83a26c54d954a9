//! The images of a store: pull, load, list, find, name, remove, and their root filesystems.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use carrack_layer::UnpackOptions;
use carrack_registry::{CredentialSource, Registry};
use carrack_store::{ImageRecord, LayerKey, Resource, Stack, Store};
use carrack_words::{Digest, ImageQuery, ImageRef, Timestamp};

use crate::config::ImageConfig;
use crate::flight::{FlightKey, Flights};
use crate::layout::Layout;
use crate::progress::{Fan, Progress};
use crate::pull::{self, Errand};
use crate::record::{ImageLayer, Record};
use crate::source::Source;
use crate::{FetchError, ImageError, LoadError, Platform, PullError, RunDefaults, layer_fetch};

/// How an image is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// For which machine; none means this one.
    pub platform: Option<Platform>,
    /// Who we are to the registry.
    pub credentials: CredentialSource,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { platform: None, credentials: CredentialSource::DockerConfig }
    }
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the configuration: the same whatever names or registries it came from.
    pub id: Digest,
    /// Digest of the platform's manifest.
    pub manifest_digest: Digest,
    /// Names with a tag, sorted.
    pub repo_tags: Vec<ImageRef>,
    /// Names with the digest of what was pulled, which is an index's if there was one; sorted.
    pub repo_digests: Vec<ImageRef>,
    /// Bytes of the compressed layers, manifest and configuration left out.
    pub compressed_bytes: u64,
    /// Bytes of the files of all layers.
    pub unpacked_bytes: u64,
    /// When the image was made, if it says so.
    pub created: Option<Timestamp>,
    /// When it last got a name here.
    pub named: Timestamp,
    /// For which machine it is.
    pub platform: Platform,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<ImageLayer>,
}

impl Image {
    /// Disk space of it alone: blobs and unpacked layers.
    pub fn size_bytes(&self) -> u64 {
        self.compressed_bytes + self.unpacked_bytes
    }

    /// What its containers are to be run with if nobody says otherwise.
    pub fn run_defaults(&self) -> &RunDefaults {
        &self.config.run
    }

    /// What a container of it needs: the engine holds this in the store for as long as there is the container.
    pub fn resources(&self) -> Vec<Resource> {
        self.layers.iter().map(|layer| Resource::Layer(layer.key)).collect()
    }
}

/// Whether obstacles that protect the user count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They do.
    No,
    /// They do not. What containers need stays on disk even then.
    Yes,
}

/// Which names an image loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The one by which it was named; by its id, all.
    This,
    /// All, whatever it was named by (CRI's rule).
    All,
}

/// What a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<ImageRef>,
    /// The image's id, if no name is left and so the image is gone.
    pub deleted: Option<Digest>,
}

/// The images of a store, and the way into it. Clones share pulls under way.
#[derive(Clone)]
pub struct Images {
    store: Store,
    registry: Registry,
    unpack: Arc<UnpackOptions>,
    flights: Arc<Flights>,
}

impl Images {
    /// The images of `store`; new ones come by `registry`.
    pub fn new(store: Store, registry: Registry) -> Self {
        Self { store, registry, unpack: Arc::default(), flights: Arc::default() }
    }

    /// Unpacks with other options than the default ones.
    pub fn with_unpack_options(mut self, options: UnpackOptions) -> Self {
        self.unpack = Arc::new(options);
        self
    }

    /// Brings an image from its registry, and records it under its tag (if it has one and no digest) and its digest. What is here already is not
    /// fetched again: of an image that has not changed only the digest is asked for.
    ///
    /// Calls for the same image at the same time are one pull; it ends when the last caller drops its future. What is whole by then, as after an
    /// error that a repeat may mend, waits for the repeat until the next [`carrack_store::Store::gc`]. Layers and blobs are not synced: call
    /// [`carrack_store::Store::promote`] in the background when the image has to outlive a power cut. Errors to tell apart by
    /// [`PullError::kind`]: not found, denied, unavailable, data loss, exhausted (disk full).
    pub async fn pull(
        &self,
        image: &ImageRef,
        options: PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, PullError> {
        let failed = |source| PullError { image: image.to_string(), source: Arc::new(source) };
        let repository = self.registry.repository(image, options.credentials.clone());
        let repository = Arc::new(repository.map_err(|source| failed(FetchError::Registry(source)))?);
        let key =
            FlightKey { image: image.clone(), platform: options.platform.clone(), credentials: options.credentials };
        let errand = Errand {
            image: image.clone(),
            platform: options.platform,
            unpack: self.unpack.clone(),
            names: names_after_pull,
        };
        let images = self.clone();
        let start = move |fan: Arc<Fan>| async move {
            let name = errand.image.to_string();
            let brought = images.bring(Source::Registry(repository), errand, fan).await;
            brought.map_err(|source| PullError { image: name, source: Arc::new(source) })
        };
        self.flights.join(key, progress, start).await
    }

    /// Brings an image from an OCI layout in the directory `path` and names it `name`, which must not have a digest. Of several images in it the
    /// one with the name's tag is meant. The checks are those of [`Self::pull`].
    pub async fn load_oci_layout(
        &self,
        path: &Path,
        name: &ImageRef,
        platform: Option<Platform>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, LoadError> {
        let failed = |source| LoadError { image: name.to_string(), path: path.to_owned(), source };
        let layout = Layout::open(path).map_err(|source| failed(source.into()))?;
        let errand = Errand { image: name.clone(), platform, unpack: self.unpack.clone(), names: names_after_load };
        let fan = Arc::new(Fan::default());
        let _listening = fan.join(progress);
        self.bring(Source::Layout(layout), errand, fan).await.map_err(failed)
    }

    async fn bring(&self, source: Source, errand: Errand, fan: Arc<Fan>) -> Result<Image, FetchError> {
        let id = pull::run(self.store.clone(), source, errand, fan).await?;
        let images = self.clone();
        let found = tokio::task::spawn_blocking(move || images.by_id(&id)).await;
        match found.map_err(|_| FetchError::Interrupted)? {
            Ok(Some(image)) => Ok(image),
            // Removed in the same moment; the caller's next look finds the same.
            Ok(None) | Err(ImageError::NotFound { .. }) => Err(FetchError::Interrupted),
            Err(ImageError::Store(source)) => Err(source.into()),
            Err(ImageError::BadConfig { source, .. }) => Err(source.into()),
            Err(_) => Err(FetchError::Interrupted),
        }
    }

    /// All images, by id. Blocks.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut by_id: BTreeMap<Digest, Vec<ImageRecord>> = BTreeMap::new();
        for row in self.store.images().list()? {
            by_id.entry(row.config).or_default().push(row);
        }
        by_id.into_values().filter_map(|rows| image_of(&rows).transpose()).collect()
    }

    /// The image that `query` means. Blocks. [`ImageError::NotFound`] if there is none, [`ImageError::Ambiguous`] if there are several.
    pub fn find(&self, query: &ImageQuery) -> Result<Image, ImageError> {
        let (image, _) = self.look_up(query)?;
        Ok(image)
    }

    /// The image, and the name by which it was meant if it was by name.
    fn look_up(&self, query: &ImageQuery) -> Result<(Image, Option<ImageRef>), ImageError> {
        let not_found = || ImageError::NotFound { query: shown(query) };
        let by_name = |name: &ImageRef| {
            let name = recorded_name(name);
            let row = self.store.images().get(&name.to_string())?;
            let image = row.map(|row| self.by_id(&row.config)).transpose()?.flatten();
            Ok::<_, ImageError>(image.map(|image| (image, Some(name))))
        };
        match query {
            ImageQuery::Name(name) => by_name(name)?.ok_or_else(not_found),
            ImageQuery::Id(id) => Ok((self.by_id(id)?.ok_or_else(not_found)?, None)),
            ImageQuery::NameOrIdPrefix { name, prefix } => {
                if let Some(found) = by_name(name)? {
                    return Ok(found);
                }
                let mut ids: Vec<Digest> =
                    self.store.images().by_config_prefix(prefix)?.into_iter().map(|row| row.config).collect();
                ids.sort();
                ids.dedup();
                match ids[..] {
                    [] => Err(not_found()),
                    [id] => Ok((self.by_id(&id)?.ok_or_else(not_found)?, None)),
                    _ => Err(ImageError::Ambiguous { query: prefix.clone(), count: ids.len() }),
                }
            }
        }
    }

    fn by_id(&self, id: &Digest) -> Result<Option<Image>, ImageError> {
        image_of(&self.store.images().by_config(id)?)
    }

    /// Gives the image that `source` means one more name; an image that had it loses it. Blocks.
    pub fn tag(&self, source: &ImageQuery, name: &ImageRef) -> Result<(), ImageError> {
        if name.digest().is_some() {
            return Err(ImageError::NameWithDigest { name: name.to_string() });
        }
        let (image, _) = self.look_up(source)?;
        let lost = || ImageError::NotFound { query: shown(source) };
        let rows = self.store.images().by_config(&image.id)?;
        let row = rows.first().ok_or_else(lost)?;
        let resources = self.store.images().resources(&row.name)?;
        // Between these lines somebody may remove the image and collect: what the lease holds by then stays, and what it could not get is missed.
        let lease = self.store.leases().create(&format!("tag {name}"), None)?;
        for resource in &resources {
            let is_there = match resource {
                Resource::Blob(digest) => self.store.blobs().claim(&lease, digest)?.is_some(),
                // A layer that a crash took is made anew when it is needed; its name stays held.
                Resource::Layer(key) => {
                    lease.add(&Resource::Layer(*key))?;
                    true
                }
            };
            if !is_there && self.store.images().get(&row.name)?.is_none() {
                return Err(lost());
            }
        }
        let named = ImageRecord { name: name.to_string(), created: Timestamp::now(), ..row.clone() };
        self.store.images().put(&named, &resources)?;
        lease.release()?;
        Ok(())
    }

    /// Takes names away from the image that `query` means; with the last one the image goes, and its disk space if nothing else needs it. Blocks.
    ///
    /// `users` are the containers that forbid it, by the engine's knowledge of them and of what `force` means to them: while there are any, the last
    /// name stays. The last tag of a repository takes that repository's digest along.
    pub fn remove(
        &self,
        query: &ImageQuery,
        names: Names,
        force: Force,
        users: impl Fn(&Digest) -> Vec<String>,
    ) -> Result<Removed, ImageError> {
        let (image, named) = self.look_up(query)?;
        let going = names_to_remove(&image, named.as_ref(), names, force)?;
        let staying = image.repo_tags.len() + image.repo_digests.len() - going.len();
        if staying == 0 {
            let users = users(&image.id);
            if !users.is_empty() {
                return Err(ImageError::InUse { image: shown(query), users: users.join(", ") });
            }
        }
        let mut untagged = Vec::new();
        for name in going {
            if self.store.images().remove(&name.to_string())? {
                untagged.push(name);
            }
        }
        let deleted = self.store.images().by_config(&image.id)?.is_empty().then_some(image.id);
        if deleted.is_some() {
            self.store.gc()?;
        }
        Ok(Removed { untagged, deleted })
    }

    /// The image's layers as overlayfs takes them. Blocks.
    ///
    /// A layer that was lost, because the machine crashed before it was synced, is unpacked again from its blob, which can take seconds. The caller
    /// holds [`Image::resources`] first, so that nothing goes away meanwhile.
    pub fn rootfs(&self, image: &Image) -> Result<Stack, ImageError> {
        let mut layers = Vec::with_capacity(image.layers.len());
        let mut lease = None;
        for (at, layer) in image.layers.iter().enumerate() {
            let found = match self.store.layers().get(&layer.key)? {
                Some(found) => found,
                None => {
                    if lease.is_none() {
                        lease = Some(self.store.leases().create(&format!("unpack {} again", image.id), None)?);
                    }
                    let lease = lease.as_ref().expect("made above");
                    if self.store.blobs().claim(lease, &layer.blob.digest)?.is_none() {
                        return Err(ImageError::LayerLost { id: image.id, layer: layer.blob.digest });
                    }
                    let plan = layer.plan(at == 0);
                    layer_fetch::rebuild(&self.store, lease, &layers, &plan, &self.unpack).map_err(|source| {
                        ImageError::Rebuild { id: image.id, layer: layer.blob.digest, source: Box::new(source) }
                    })?
                }
            };
            layers.push(found);
        }
        Ok(self.store.layers().stack(&layers))
    }
}

/// The tag, unless the digest was asked for, and the digest.
fn names_after_pull(image: &ImageRef, digest: &Digest) -> Vec<ImageRef> {
    let tagged = image.digest().is_none().then(|| image.clone());
    tagged.into_iter().chain([image.with_digest(*digest)]).collect()
}

/// A directory is no repository: the digest says nothing about where more of the image could be got.
fn names_after_load(image: &ImageRef, _: &Digest) -> Vec<ImageRef> {
    vec![image.without_digest().unwrap_or_else(|| image.clone())]
}

/// As records are named: with a tag or with a digest, and the digest decides.
fn recorded_name(name: &ImageRef) -> ImageRef {
    name.digest().map_or_else(|| name.clone(), |digest| name.with_digest(*digest))
}

fn shown(query: &ImageQuery) -> String {
    match query {
        ImageQuery::Name(name) => name.familiar(),
        ImageQuery::Id(id) => id.to_string(),
        ImageQuery::NameOrIdPrefix { prefix, .. } => prefix.clone(),
    }
}

/// The image of rows that all have the same id; none if there are none.
fn image_of(rows: &[ImageRecord]) -> Result<Option<Image>, ImageError> {
    let Some(row) = rows.iter().max_by_key(|row| row.created) else { return Ok(None) };
    let record = Record::read(row)?;
    let config = record.config(row)?;
    let layers = record.layers(row)?;
    let names: Vec<ImageRef> = rows.iter().filter_map(|row| row.name.parse().ok()).collect();
    let (repo_digests, repo_tags) = names.into_iter().partition(|name| name.digest().is_some());
    let mut blobs: Vec<_> = layers.iter().map(|layer| layer.blob).collect();
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup();
    let mut keys: Vec<(LayerKey, u64)> = layers.iter().map(|layer| (layer.key, layer.file_bytes)).collect();
    keys.sort();
    keys.dedup();
    Ok(Some(Image {
        id: row.config,
        manifest_digest: record.manifest,
        repo_tags,
        repo_digests,
        compressed_bytes: blobs.iter().map(|blob| blob.size_bytes).sum(),
        unpacked_bytes: keys.iter().map(|(_, bytes)| bytes).sum(),
        created: config.created,
        named: row.created,
        platform: config.platform.clone(),
        config,
        layers,
    }))
}

/// Decides which names go.
fn names_to_remove(
    image: &Image,
    named: Option<&ImageRef>,
    names: Names,
    force: Force,
) -> Result<Vec<ImageRef>, ImageError> {
    let all = || image.repo_tags.iter().chain(&image.repo_digests).cloned().collect::<Vec<_>>();
    match (names, named) {
        (Names::All, _) => Ok(all()),
        (Names::This, None) => {
            let repositories = image.repo_tags.len();
            if repositories > 1 && force == Force::No {
                let names = image.repo_tags.iter().map(ImageRef::familiar).collect::<Vec<_>>().join(", ");
                return Err(ImageError::SeveralNames { id: image.id, names });
            }
            Ok(all())
        }
        (Names::This, Some(name)) => {
            let same_repository = |other: &&ImageRef| other.name() == name.name();
            let mut going = vec![name.clone()];
            let is_last_tag = name.digest().is_none() && image.repo_tags.iter().filter(same_repository).count() == 1;
            if is_last_tag {
                going.extend(image.repo_digests.iter().filter(same_repository).cloned());
            }
            Ok(going)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_config;

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<ImageRef>>();
        let config = parse_config(br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}"#).unwrap();
        Image {
            id: Digest::from_sha256([1; 32]),
            manifest_digest: Digest::from_sha256([2; 32]),
            repo_tags: parse(tags),
            repo_digests: parse(digests),
            compressed_bytes: 0,
            unpacked_bytes: 0,
            created: None,
            named: Timestamp::from_nanoseconds(0),
            platform: config.platform.clone(),
            config,
            layers: vec![],
        }
    }

    #[test]
    fn the_last_tag_of_a_repository_takes_its_digest_along() {
        let at = format!("@{}", Digest::from_sha256([3; 32]));
        let (a, b) = (format!("a{at}"), format!("b{at}"));
        for (tags, named, names, want) in [
            (&["a:1", "b:1"][..], Some("a:1"), Names::This, Ok(vec!["a:1", &a])),
            (&["a:1", "a:2"], Some("a:1"), Names::This, Ok(vec!["a:1"])),
            (&["a:1"], Some(a.as_str()), Names::This, Ok(vec![a.as_str()])),
            (&["a:1"], None, Names::This, Ok(vec!["a:1", &a, &b])),
            (&["a:1", "b:1"], None, Names::This, Err(())),
            (&["a:1", "b:1"], Some("a:1"), Names::All, Ok(vec!["a:1", "b:1", &a, &b])),
        ] {
            let image = image(tags, &[&a, &b]);
            let named: Option<ImageRef> = named.map(|text| text.parse().unwrap());
            let got = names_to_remove(&image, named.as_ref(), names, Force::No);
            let got = got.map(|names| names.iter().map(ImageRef::familiar).collect::<Vec<_>>()).map_err(|_| ());
            let want = want
                .map(|names| names.iter().map(|text| text.parse::<ImageRef>().unwrap().familiar()).collect::<Vec<_>>());
            assert_eq!(got, want, "{tags:?} {named:?}");
        }
    }

    #[test]
    fn a_pull_by_digest_gives_no_tag_and_a_load_no_digest() {
        let digest = Digest::from_sha256([3; 32]);
        let parse = |text: &str| text.parse::<ImageRef>().unwrap();
        assert_eq!(names_after_pull(&parse("a:1"), &digest), [parse("a:1"), parse(&format!("a@{digest}"))]);
        assert_eq!(names_after_pull(&parse(&format!("a:1@{digest}")), &digest), [parse(&format!("a@{digest}"))]);
        assert_eq!(names_after_load(&parse("a:1"), &digest), [parse("a:1")]);
    }
}
