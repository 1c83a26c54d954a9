//! Images made on the spot, byte by byte, without any program.
//!
//! [`Image`] holds the blobs; it can be written as an OCI layout for Debian's tools, or served by
//! [`crate::registry::canned::CannedRegistry`]. [`peers`] makes images with those tools instead.

pub mod peers;
pub mod tarball;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use tarball::Tarball;

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Which of the two families of media types an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The OCI image specification.
    Oci,
    /// Docker's schema 2.2.
    Docker,
}

/// A finished image: its blobs by digest, the manifest among them.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the manifest.
    pub manifest: String,
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of the configuration: the image's id.
    pub config: String,
    /// Digests of the layers' blobs, the lowest first.
    pub layers: Vec<String>,
    /// All blobs by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// An image under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    family: Family,
    architecture: String,
    config: Value,
    layers: Vec<(Packing, Vec<u8>)>,
}

impl Default for Builder {
    fn default() -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            family: Family::Oci,
            architecture: "amd64".into(),
            config: json!({ "Env": [path], "Cmd": ["sh"] }),
            layers: vec![],
        }
    }
}

impl Builder {
    /// Sets a member of the configuration's `config`, such as `Cmd` or `User`.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// For another processor, in Go's words.
    pub fn architecture(mut self, name: &str) -> Self {
        self.architecture = name.into();
        self
    }

    /// With Docker's media types instead of the OCI's.
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// Adds a layer above the others.
    pub fn layer(mut self, packing: Packing, archive: Vec<u8>) -> Self {
        self.layers.push((packing, archive));
        self
    }

    /// Packs everything.
    pub fn build(self) -> Image {
        let mut blobs = BTreeMap::new();
        let mut diff_ids = vec![];
        let mut descriptors = vec![];
        let mut layers = vec![];
        for (packing, archive) in &self.layers {
            diff_ids.push(digest(archive));
            let packed = pack(*packing, archive);
            let id = digest(&packed);
            descriptors.push(json!({ "mediaType": self.layer_type(*packing), "digest": id, "size": packed.len() }));
            layers.push(id.clone());
            blobs.insert(id, packed);
        }
        let config = json!({
            "created": "2024-05-06T07:08:09Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": self.layers.iter().map(|_| json!({ "created_by": "carrack-tests" })).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        let (config_type, media_type) = match self.family {
            Family::Oci => ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.manifest.v1+json"),
            Family::Docker => (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            ),
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": { "mediaType": config_type, "digest": digest(&config), "size": config.len() },
            "layers": descriptors,
        })
        .to_string()
        .into_bytes();
        let (config_id, manifest_id) = (digest(&config), digest(&manifest));
        blobs.insert(config_id.clone(), config);
        blobs.insert(manifest_id.clone(), manifest);
        Image { manifest: manifest_id, media_type: media_type.into(), config: config_id, layers, blobs }
    }

    fn layer_type(&self, packing: Packing) -> &'static str {
        match (self.family, packing) {
            (Family::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Family::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Family::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Family::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Family::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Family::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

impl Image {
    /// Writes the blobs as an OCI layout whose index has the image under `tag`.
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("the test's directory is writable");
        for (id, content) in &self.blobs {
            let name = id.strip_prefix("sha256:").expect("digests here are sha256");
            fs::write(blobs.join(name), content).expect("the test's directory is writable");
        }
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": self.media_type,
                "digest": self.manifest,
                "size": self.blobs[&self.manifest].len(),
                "annotations": { "org.opencontainers.image.ref.name": tag },
            }],
        });
        fs::write(directory.join("index.json"), index.to_string()).expect("the test's directory is writable");
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("the test's directory is writable");
    }
}

/// An index over images for several processors (in Go's words), as a blob beside theirs.
pub fn index_of(images: &[(&str, &Image)]) -> Image {
    let media_type = "application/vnd.oci.image.index.v1+json";
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            json!({
                "mediaType": image.media_type,
                "digest": image.manifest,
                "size": image.blobs[&image.manifest].len(),
                "platform": { "os": "linux", "architecture": architecture },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }).to_string().into_bytes();
    let id = digest(&index);
    let mut blobs: BTreeMap<String, Vec<u8>> = images.iter().flat_map(|(_, image)| image.blobs.clone()).collect();
    blobs.insert(id.clone(), index);
    Image { manifest: id, media_type: media_type.into(), config: String::new(), layers: vec![], blobs }
}

/// `sha256:` and the hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The applets that the busybox image has by name.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "true", "false", "id", "ls", "mount", "ps", "kill", "wget", "nc", "httpd",
    "hostname", "env", "touch", "rm", "mkdir", "dd", "head", "tail", "grep", "test", "stty", "nslookup", "ping", "ip",
    "seq", "yes", "printf", "sync", "stat", "readlink", "tty", "wc", "date", "umask", "sort", "tr", "pwd", "nproc",
    "uname", "mknod", "chown", "chmod", "ln", "od", "df", "vi", "setsid", "trap",
];

/// A layer with busybox, its applets, and the files that a system has.
pub fn busybox_layer() -> Vec<u8> {
    let busybox = fs::read(crate::programs::busybox()).expect("busybox-static is installed");
    let mut tar = Tarball::default();
    for directory in ["bin", "etc", "root", "home", "home/web", "var", "usr", "usr/bin"] {
        tar.directory(directory, 0o755);
    }
    tar.directory("tmp", 0o1777);
    tar.file("bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    tar.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n");
    tar.file("etc/group", 0o644, b"root:x:0:\nweb:x:1001:\nvideo:x:44:web\n");
    tar.file("etc/not-a-program", 0o644, b"text\n");
    tar.finish()
}

/// The smallest useful image.
pub fn busybox() -> Image {
    Builder::default().layer(Packing::Gzip, busybox_layer()).build()
}

fn pack(packing: Packing, archive: &[u8]) -> Vec<u8> {
    match packing {
        Packing::Plain => archive.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(archive).expect("a vector takes all bytes");
            encoder.finish().expect("a vector takes all bytes")
        }
        Packing::Zstd => zstd::encode_all(archive, 1).expect("a vector takes all bytes"),
    }
}
