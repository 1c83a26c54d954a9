//! Talks to registries: OCI distribution specification 1.1, pull side, with the logins and the transport that registries in the field want.
//!
//! ```text
//! Registry ──repository()──▶ Repository ──manifest_digest()──▶ Digest
//! (connections, logins)                 ──manifest()─────────▶ RawManifest    bounded, digest checked
//!                                       ──blob()─────────────▶ BlobStream     size checked, resumed; the caller hashes
//!                                       ──blob_bytes()───────▶ Vec<u8>        bounded, size and digest checked
//! ```
//!
//! Everything a registry says is hostile: bodies are bounded, digests are parsed into [`carrack_words::Digest`] before they get anywhere near
//! a path, and its texts are cleaned before they stand in an error. Secrets are [`Secret`]s, go to the registry that they belong to and to the
//! token server that it names over TLS, and never follow a redirect to another host. The `urls` of foreign layers are never asked
//! (CVE-2020-15157).
//!
//! Everything is cancel-safe: dropping a future closes its connection and kills its credential helper.

#![forbid(unsafe_code)]

mod anchor;
mod back_off;
mod blob;
mod challenge;
mod credentials;
mod dial;
mod dns;
mod docker_config;
mod endpoint;
mod error;
mod helper;
mod manifest;
pub mod media_type;
mod proxy;
mod repository;
mod secret;
mod settings;
mod tls;
mod token;
mod transport;

pub use back_off::Patience;
pub use blob::BlobStream;
pub use challenge::{Challenge, parse_challenges};
pub use credentials::{AuthConfig, CredentialError, CredentialSource, Credentials};
pub use dial::DialError;
pub use dns::DnsError;
pub use docker_config::DockerConfigError;
pub use endpoint::{Endpoint, EndpointError, RedirectError, Scheme};
pub use error::{RegistryError, Said, SizeSeen};
pub use helper::HelperError;
pub use hyper::body::Bytes;
pub use manifest::{LONGEST_MANIFEST, ManifestReference, RawManifest};
pub use proxy::{Proxies, Proxy, ProxyError};
pub use repository::{Registry, Repository, UserAgentError};
pub use secret::Secret;
pub use settings::Settings;
pub use tls::{CertificateError, CertificateSources};
pub use token::TokenError;
pub use transport::TransportError;
