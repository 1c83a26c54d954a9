//! Images made in memory, a registry that serves them, and stores to pull them into.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use carrack_image::{Images, PullOptions};
use carrack_registry::{CredentialSource, Credentials, Patience, Registry, Settings};
use carrack_store::Store;
use carrack_words::{Digest, ImageRef};
use sha2::{Digest as _, Sha256};

use crate::server::{Asked, Reply, Server};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// One entry of a tar.
pub enum Entry<'a> {
    Dir(&'a str),
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
    Whiteout(&'a str),
}

/// A plain ustar archive.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        match entry {
            Entry::Dir(name) => header(&mut archive, &format!("{name}/"), b'5', 0o755, 0, ""),
            Entry::File(name, content) => {
                header(&mut archive, name, b'0', 0o644, content.len(), "");
                archive.extend_from_slice(content);
                archive.resize(archive.len().next_multiple_of(512), 0);
            }
            Entry::Symlink(name, target) => header(&mut archive, name, b'2', 0o777, 0, target),
            Entry::Whiteout(name) => header(&mut archive, name, b'0', 0o644, 0, ""),
        }
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn header(archive: &mut Vec<u8>, name: &str, kind: u8, mode: u32, size: usize, link: &str) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\u{0}00");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend_from_slice(&block);
}

/// An image and everything that belongs to it.
#[derive(Clone, Default)]
pub struct FakeImage {
    pub blobs: HashMap<Digest, Vec<u8>>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub manifest: Vec<u8>,
}

impl FakeImage {
    /// An image of these layers (plain tars).
    pub fn new(architecture: &str, layers: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", digest(layer))).collect();
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Cmd":["/bin/sh"],"Env":["A=b"],"User":"7"}},
                "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        Self::with_config(config.into_bytes(), layers)
    }

    pub fn with_config(config: Vec<u8>, layers: &[Vec<u8>]) -> Self {
        let mut image = Self { config, layers: layers.to_vec(), ..Self::default() };
        let list: Vec<String> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        image.manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            descriptor(CONFIG, &image.config),
            list.join(",")
        )
        .into_bytes();
        for blob in image.layers.iter().chain([&image.config]) {
            image.blobs.insert(digest(blob), blob.clone());
        }
        image
    }

    pub fn id(&self) -> Digest {
        digest(&self.config)
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, digest(bytes), bytes.len())
}

/// What a registry has. Tests change it while it is served.
#[derive(Default)]
pub struct Content {
    /// By tag or digest: media type and bytes.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    /// By digest.
    pub blobs: HashMap<String, Reply>,
}

impl Content {
    pub fn add(&mut self, tag: &str, image: &FakeImage) {
        self.add_manifest(tag, MANIFEST, &image.manifest);
        for (digest, bytes) in &image.blobs {
            self.blobs.insert(digest.to_string(), Reply::ok(bytes.clone()));
        }
    }

    pub fn add_manifest(&mut self, tag: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag.to_owned(), digest(bytes).to_string()] {
            self.manifests.insert(name, (media_type.to_owned(), bytes.to_vec()));
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let last = asked.target.rsplit('/').next().unwrap_or_default();
        if asked.target.contains("/manifests/") {
            return match self.manifests.get(last) {
                Some((media_type, bytes)) => Reply::ok(bytes.clone())
                    .with("Content-Type", media_type.clone())
                    .with("Docker-Content-Digest", digest(bytes).to_string()),
                None => Reply::status(404),
            };
        }
        self.blobs.get(last).cloned().unwrap_or_else(|| Reply::status(404))
    }
}

/// A registry that serves `content`.
pub struct FakeRegistry {
    pub server: Server,
    pub content: Arc<Mutex<Content>>,
}

impl FakeRegistry {
    pub fn start() -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        let served = content.clone();
        Self { server: Server::start(move |asked| served.lock().unwrap().answer(asked)), content }
    }

    pub fn with(tag: &str, image: &FakeImage) -> Self {
        let registry = Self::start();
        registry.content.lock().unwrap().add(tag, image);
        registry
    }

    pub fn name(&self, tag: &str) -> ImageRef {
        format!("127.0.0.1:{}/app:{tag}", self.server.port()).parse().unwrap()
    }

    /// Replaces what is answered for a blob.
    pub fn set_blob(&self, bytes: &[u8], reply: Reply) {
        self.content.lock().unwrap().blobs.insert(digest(bytes).to_string(), reply);
    }

    pub fn blob_gets(&self) -> usize {
        self.server.count("GET", "/blobs/")
    }
}

/// A directory that goes with it.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("carrack-image-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn settings() -> Settings {
    let patience = Patience { first_pause: std::time::Duration::from_millis(5), ..Patience::default() };
    Settings { patience, ..Settings::default() }
}

pub fn open(root: &Path) -> Store {
    Store::open(&root.join("root"), &root.join("run")).unwrap()
}

pub fn images(store: &Store) -> Images {
    Images::new(store.clone(), Registry::new(settings()).unwrap())
}

pub fn anonymous() -> PullOptions {
    PullOptions { platform: None, credentials: CredentialSource::Explicit(Credentials::Anonymous) }
}

/// Everything in a store that takes space but the database: blobs, ingests, layers.
pub fn leftovers(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["blobs/sha256", "ingest", "layers", "layers/active", "layers/trash"] {
        for entry in std::fs::read_dir(root.join("root").join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("layers/active") && !path.ends_with("layers/trash") {
                found.push(path);
            }
        }
    }
    found
}

/// An error with all its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A transparent error says the same twice.
        if !text.ends_with(&error.to_string()) {
            text += &format!(": {error}");
        }
        cause = error.source();
    }
    text
}
