//! Indexes and manifests: wire types, and what we make of them.
//!
//! OCI image specification 1.1 (image-index.md, manifest.md, descriptor.md) and Docker's image manifest version 2, schema 2. The documents are
//! hostile; they are bounded before they come here. One that could be read as an index by one program and as a manifest by another is refused
//! (CVE-2021-41190).

use std::collections::BTreeMap;

use carrack_registry::media_type::{
    DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED, OCI_INDEX, OCI_MANIFEST,
};
use carrack_words::{Digest, DigestError, Kind};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Platform;

/// overlayfs stacks no more (`OVL_MAX_STACK`).
pub const MOST_LAYERS: usize = 500;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A tar, whatever compression its bytes turn out to have. Nondistributable layers are fetched from the registry as all others are, and never
/// from their `urls` (CVE-2020-15157).
const LAYER_TYPES: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// A document is not an index or manifest that we can use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// No JSON of the right form.
    #[error("it is malformed")]
    Malformed {
        /// Where and why.
        source: serde_json::Error,
    },
    /// Docker's first format, which cannot be verified.
    #[error(
        "it has Docker's manifest format version 2, schema 1, which is not supported: push the image anew with a current tool"
    )]
    Schema1,
    /// Neither an index nor a manifest.
    #[error("its type {media_type:?} is not that of an image")]
    Type {
        /// What it says, shortened.
        media_type: String,
    },
    /// The registry and the document disagree about what it is.
    #[error("it was announced as {announced:?} and calls itself {own:?}")]
    TypeMismatch {
        /// The registry's word.
        announced: String,
        /// The document's.
        own: String,
    },
    /// It has the fields of an index and of a manifest.
    #[error("it is an index and a manifest at once")]
    Ambiguous,
    /// A field that must be there is not.
    #[error("it has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A digest in it is none.
    #[error("a digest in it is invalid")]
    Digest {
        /// Why.
        source: DigestError,
    },
    /// The configuration is not that of an image: the document is an artifact of another kind.
    #[error("it is an artifact with a configuration of type {media_type:?}, not a container image")]
    Artifact {
        /// The configuration's type, shortened.
        media_type: String,
    },
    /// A layer that is no tar.
    #[error("it has a layer of type {media_type:?}, which cannot be unpacked")]
    LayerType {
        /// The layer's type, shortened.
        media_type: String,
    },
    /// More layers than can be stacked.
    #[error("it has {count} layers, and no more than {MOST_LAYERS} can be stacked")]
    TooManyLayers {
        /// How many.
        count: usize,
    },
}

impl DocumentError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Schema1 | Self::Type { .. } | Self::Artifact { .. } | Self::LayerType { .. } => Kind::Unsupported,
            Self::Digest { source: DigestError::Algorithm { .. } } => Kind::Unsupported,
            Self::Malformed { .. }
            | Self::TypeMismatch { .. }
            | Self::Ambiguous
            | Self::Missing { .. }
            | Self::Digest { .. }
            | Self::TooManyLayers { .. } => Kind::Invalid,
        }
    }
}

/// A document by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several images to choose from.
    Index(Vec<Offer>),
    /// One image.
    Manifest(Manifest),
}

/// One entry of an index. Its digest is text until it is chosen: an entry that we cannot read must not make the others useless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// For which machine; none if the index does not say.
    pub platform: Option<Platform>,
    /// Where a layout keeps its names (`org.opencontainers.image.ref.name`).
    pub ref_name: Option<String>,
    /// Its media type.
    pub media_type: Option<String>,
    /// Its digest, unchecked.
    pub digest: String,
    /// Its size.
    pub size_bytes: u64,
}

impl Offer {
    /// The offer's digest, checked.
    pub fn digest(&self) -> Result<Digest, DocumentError> {
        self.digest.parse().map_err(|source| DocumentError::Digest { source })
    }
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The image's configuration.
    pub config: BlobInfo,
    /// Its layers, bottom first.
    pub layers: Vec<BlobInfo>,
}

/// A blob as a manifest describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobInfo {
    /// sha256 of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<WireDescriptor>>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    platform: Option<WirePlatform>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
struct WirePlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

/// Reads an index or manifest. `announced` is the type that the registry or the descriptor gave it.
pub fn parse_document(bytes: &[u8], announced: Option<&str>) -> Result<Document, DocumentError> {
    let wire: Wire = serde_json::from_slice(bytes).map_err(|source| DocumentError::Malformed { source })?;
    let own = wire.media_type.clone().filter(|text| !text.is_empty());
    let types = [announced.map(str::to_owned), own.clone()];
    let is_schema_1 = |text: &Option<String>| matches!(text.as_deref(), Some(DOCKER_SCHEMA_1 | DOCKER_SCHEMA_1_SIGNED));
    if types.iter().any(is_schema_1) || wire.schema_version == Some(1) || wire.fs_layers.is_some() {
        return Err(DocumentError::Schema1);
    }
    if let (Some(announced), Some(own)) = (announced, &own)
        && is_known(announced)
        && announced != own
    {
        return Err(DocumentError::TypeMismatch { announced: announced.to_owned(), own: shortened(own) });
    }
    let is_index = wire.manifests.is_some();
    if is_index && (wire.layers.is_some() || wire.config.is_some()) {
        return Err(DocumentError::Ambiguous);
    }
    match types.into_iter().flatten().find(|text| is_known(text)).as_deref() {
        Some(OCI_INDEX | DOCKER_LIST) => index(wire),
        Some(_) => manifest(wire),
        None if own.is_some() => Err(DocumentError::Type { media_type: shortened(&own.unwrap_or_default()) }),
        None if is_index => index(wire),
        None if wire.config.is_some() && wire.layers.is_some() => manifest(wire),
        None => Err(DocumentError::Type { media_type: shortened(announced.unwrap_or_default()) }),
    }
}

/// What a document that [`parse_document`] took is called: its own word, the one it was announced with, or else OCI's for its kind.
pub(crate) fn media_type_of(bytes: &[u8], announced: Option<&str>, document: &Document) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
    }
    let own = serde_json::from_slice::<Own>(bytes).ok().and_then(|own| own.media_type);
    let given = [own.as_deref(), announced].into_iter().flatten().find(|text| is_known(text));
    let by_kind = match document {
        Document::Index(_) => OCI_INDEX,
        Document::Manifest(_) => OCI_MANIFEST,
    };
    given.unwrap_or(by_kind).to_owned()
}

fn is_known(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST)
}

fn index(wire: Wire) -> Result<Document, DocumentError> {
    let manifests = wire.manifests.ok_or(DocumentError::Missing { field: "manifests" })?;
    Ok(Document::Index(manifests.into_iter().map(offer).collect()))
}

fn offer(wire: WireDescriptor) -> Offer {
    let platform = wire.platform.and_then(|platform| {
        let (os, architecture) = (platform.os?, platform.architecture?);
        Some(Platform::new(&os, &architecture, platform.variant.as_deref()))
    });
    let name = wire.annotations.and_then(|mut all| all.remove("org.opencontainers.image.ref.name").flatten());
    Offer { platform, ref_name: name, media_type: wire.media_type, digest: wire.digest, size_bytes: wire.size }
}

fn manifest(wire: Wire) -> Result<Document, DocumentError> {
    let config = wire.config.ok_or(DocumentError::Missing { field: "config" })?;
    let layers = wire.layers.ok_or(DocumentError::Missing { field: "layers" })?;
    let config_type = config.media_type.as_deref().unwrap_or_default();
    if !matches!(config_type, "" | OCI_CONFIG | DOCKER_CONFIG) {
        return Err(DocumentError::Artifact { media_type: shortened(config_type) });
    }
    if layers.len() > MOST_LAYERS {
        return Err(DocumentError::TooManyLayers { count: layers.len() });
    }
    let layers = layers.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Document::Manifest(Manifest { config: blob(&config)?, layers }))
}

fn layer(wire: &WireDescriptor) -> Result<BlobInfo, DocumentError> {
    match wire.media_type.as_deref() {
        Some(media_type) if LAYER_TYPES.contains(&media_type) => blob(wire),
        other => Err(DocumentError::LayerType { media_type: shortened(other.unwrap_or_default()) }),
    }
}

fn blob(wire: &WireDescriptor) -> Result<BlobInfo, DocumentError> {
    let digest = wire.digest.parse().map_err(|source| DocumentError::Digest { source })?;
    Ok(BlobInfo { digest, size_bytes: wire.size })
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn parse(text: &str, announced: Option<&str>) -> Result<Document, String> {
        parse_document(text.as_bytes(), announced).map_err(|error| error.to_string())
    }

    fn manifest_text(config_type: &str, layer_type: &str, layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{A}","size":7}},
                "layers":[{{"mediaType":"{layer_type}","digest":"{layer}","size":9,"urls":["https://stranger.example/x"]}}]}}"#
        )
    }

    #[test]
    fn manifests_of_both_families_say_the_same() {
        let blob = |text: &str, size_bytes| BlobInfo { digest: text.parse().unwrap(), size_bytes };
        let want = Ok(Document::Manifest(Manifest { config: blob(A, 7), layers: vec![blob(B, 9)] }));
        let oci = manifest_text(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd", B);
        let docker = manifest_text(DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip", B);
        assert_eq!(parse(&oci, Some(OCI_MANIFEST)), want);
        assert_eq!(parse(&oci, None), want);
        assert_eq!(parse(&docker, Some(DOCKER_MANIFEST)), want);
        assert_eq!(parse(&docker, Some("application/json")), want);
    }

    #[test]
    fn an_index_offers_platforms_and_tolerates_what_it_does_not_know() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","annotations":null,"manifests":[
                {{"mediaType":"x","digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8","os.features":["y"]}}}},
                {{"mediaType":"x","digest":"sha512:00","size":2,"annotations":{{"org.opencontainers.image.ref.name":"v1","z":null}}}}]}}"#
        );
        let offer = |platform, ref_name, digest: &str, size_bytes| Offer {
            platform,
            ref_name,
            media_type: Some("x".into()),
            digest: digest.into(),
            size_bytes,
        };
        let want = Document::Index(vec![
            offer(Some(Platform::new("linux", "arm64", None)), None, A, 1),
            offer(None, Some("v1".into()), "sha512:00", 2),
        ]);
        assert_eq!(parse(&text, Some(OCI_INDEX)), Ok(want));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{{"digest":"{A}","size":1}},"layers":[]}}"#);
        let schema_1 = "it has Docker's manifest format version 2, schema 1, which is not supported: push the image anew with a current tool";
        for (text, announced, want) in [
            (both.clone(), Some(OCI_INDEX), "it is an index and a manifest at once".to_owned()),
            (both, None, "it is an index and a manifest at once".to_owned()),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), None, schema_1.to_owned()),
            ("{}".to_owned(), Some(DOCKER_SCHEMA_1_SIGNED), schema_1.to_owned()),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}"}}"#),
                Some(OCI_INDEX),
                format!("it was announced as {OCI_INDEX:?} and calls itself {OCI_MANIFEST:?}"),
            ),
            (r#"{"schemaVersion":2}"#.to_owned(), Some("text/html"), r#"its type "text/html" is not that of an image"#.to_owned()),
            (
                r#"{"schemaVersion":2,"mediaType":"a/b"}"#.to_owned(),
                None,
                r#"its type "a/b" is not that of an image"#.to_owned(),
            ),
            (r#"{"schemaVersion":2}"#.to_owned(), Some(OCI_INDEX), "it has no manifests".to_owned()),
            (r#"{"schemaVersion":2}"#.to_owned(), Some(OCI_MANIFEST), "it has no config".to_owned()),
            ("[".to_owned(), None, "it is malformed".to_owned()),
            (manifest_text(OCI_CONFIG, layer_type, "sha256:../../../etc/passwd"), None, "a digest in it is invalid".to_owned()),
            (manifest_text(OCI_CONFIG, layer_type, "sha512:00"), None, "a digest in it is invalid".to_owned()),
            (
                manifest_text("application/vnd.cncf.helm.config.v1+json", layer_type, B),
                None,
                "it is an artifact with a configuration of type \"application/vnd.cncf.helm.config.v1+json\", not a container image"
                    .to_owned(),
            ),
            (
                manifest_text(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+encrypted", B),
                None,
                "it has a layer of type \"application/vnd.oci.image.layer.v1.tar+encrypted\", which cannot be unpacked".to_owned(),
            ),
            (
                manifest_text(OCI_CONFIG, layer_type, B).replace("\"size\":9", "\"size\":-1"),
                None,
                "it is malformed".to_owned(),
            ),
        ] {
            assert_eq!(parse(&text, announced), Err(want), "{text}");
        }
    }

    #[test]
    fn a_document_has_a_type_even_if_nobody_said_it() {
        let silent = manifest_text(OCI_CONFIG, LAYER_TYPES[0], B);
        let outspoken = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[]}}"#);
        for (text, announced, want) in [
            (&silent, None, OCI_MANIFEST),
            (&silent, Some(DOCKER_MANIFEST), DOCKER_MANIFEST),
            (&silent, Some("text/plain"), OCI_MANIFEST),
            (&outspoken, None, DOCKER_LIST),
        ] {
            let document = parse_document(text.as_bytes(), announced).unwrap();
            assert_eq!(media_type_of(text.as_bytes(), announced, &document), want, "{text}");
        }
    }

    #[test]
    fn more_layers_than_can_be_stacked_are_refused() {
        let layer = format!(r#"{{"mediaType":"{}","digest":"{B}","size":1}}"#, LAYER_TYPES[0]);
        let layers = vec![layer; MOST_LAYERS + 1].join(",");
        let text = format!(r#"{{"config":{{"digest":"{A}","size":1}},"layers":[{layers}]}}"#);
        assert_eq!(parse(&text, None), Err("it has 501 layers, and no more than 500 can be stacked".into()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_document(&bytes, Some(OCI_INDEX));
        }
    }
}
