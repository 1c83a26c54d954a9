//! Whom to trust: the system's certificate authorities, and those that the operator put beside a registry's name.
//!
//! System authorities come from the usual places of the distributions, or from where `SSL_CERT_FILE` and `SSL_CERT_DIR` point. For one registry,
//! all `*.crt` files of `/etc/docker/certs.d/<host[:port]>/` and `/etc/containers/certs.d/<host[:port]>/` count too, as with Docker and
//! Podman. A server's own certificate may stand there too, see [`crate::anchor`]. There is no way to switch verification off.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::anchor::Anchors;

/// A certificate authority that the operator named cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file or directory cannot be read.
    #[error("read certificate authorities from {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not PEM, or holds no certificate.
    #[error("{path} holds no usable certificate")]
    Invalid {
        /// Which one.
        path: PathBuf,
    },
}

/// Where certificate authorities are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSources {
    /// `SSL_CERT_FILE`: in place of the system's.
    pub file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: in place of the system's.
    pub directories: Vec<PathBuf>,
    /// Directories with one directory per registry.
    pub per_host: Vec<PathBuf>,
}

impl Default for CertificateSources {
    fn default() -> Self {
        Self {
            file: None,
            directories: Vec::new(),
            per_host: ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from).into(),
        }
    }
}

/// Makes the TLS configuration for each host.
#[derive(Debug)]
pub(crate) struct Trust {
    sources: CertificateSources,
    /// The system's authorities alone: shared, so that sessions are resumed. Read once.
    common: OnceLock<(Anchors, Arc<ClientConfig>)>,
}

impl Trust {
    pub(crate) fn new(sources: CertificateSources) -> Self {
        Self { sources, common: OnceLock::new() }
    }

    pub(crate) fn config_for(&self, url: &Url) -> Result<Arc<ClientConfig>, CertificateError> {
        let (anchors, config) = self.common()?;
        let extra = self.extra_for(url)?;
        if extra.is_empty() {
            return Ok(config.clone());
        }
        let mut anchors = anchors.clone();
        for (path, certificate) in extra {
            anchors.add(certificate).map_err(|_| CertificateError::Invalid { path })?;
        }
        Ok(configure(anchors))
    }

    fn common(&self) -> Result<&(Anchors, Arc<ClientConfig>), CertificateError> {
        if let Some(common) = self.common.get() {
            return Ok(common);
        }
        let anchors = self.system_anchors()?;
        let config = configure(anchors.clone());
        Ok(self.common.get_or_init(|| (anchors, config)))
    }

    fn system_anchors(&self) -> Result<Anchors, CertificateError> {
        let mut anchors = Anchors::none();
        if let Some(file) = &self.sources.file {
            for certificate in read_pem(file)? {
                anchors.add(certificate).map_err(|_| CertificateError::Invalid { path: file.clone() })?;
            }
        }
        let mut found = Vec::new();
        for directory in &self.sources.directories {
            found.extend(rustls_native_certs::load_certs_from_paths(None, Some(directory)).certs);
        }
        if self.sources.file.is_none() && self.sources.directories.is_empty() {
            // None at all is not an error here: a registry on loopback or with a private authority needs none.
            found.extend(rustls_native_certs::load_native_certs().certs);
        }
        for certificate in found {
            // A directory of a system has stray and odd files; those that are certificates count.
            let _ = anchors.add(certificate);
        }
        Ok(anchors)
    }

    fn extra_for(&self, url: &Url) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, CertificateError> {
        let mut found = Vec::new();
        for name in directory_names(url) {
            for parent in &self.sources.per_host {
                for path in certificate_files(&parent.join(&name))? {
                    found.extend(read_pem(&path)?.into_iter().map(|certificate| (path.clone(), certificate)));
                }
            }
        }
        Ok(found)
    }
}

fn configure(anchors: Anchors) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring offers the cipher suites of TLS 1.2 and 1.3");
    let builder = match anchors.verifier(&provider) {
        Some(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        // Then no server is trusted.
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// `host:port`, and `host` alone for the default port. A redirect decides the host, so a name that is no plain file name gives nothing.
fn directory_names(url: &Url) -> Vec<String> {
    let Some(host) = url.host_str().filter(|host| !host.starts_with('.') && !host.contains('/')) else {
        return Vec::new();
    };
    let numbered = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    let bare = url.port().is_none().then(|| host.to_owned());
    numbered.into_iter().chain(bare).collect()
}

fn certificate_files(directory: &Path) -> Result<Vec<PathBuf>, CertificateError> {
    let failed = |source| CertificateError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(failed(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
    let invalid = || CertificateError::Invalid { path: path.to_owned() };
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|_| invalid())?;
    if certificates.is_empty() { Err(invalid()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_directory_is_a_plain_name_below_the_parent() {
        for (url, want) in [
            ("https://a.example/v2/", vec!["a.example:443", "a.example"]),
            ("https://a.example:5000/v2/", vec!["a.example:5000"]),
            ("https://[::1]:5000/", vec!["[::1]:5000"]),
            ("https://../", vec![]),
        ] {
            let names = Url::parse(url).map(|url| directory_names(&url)).unwrap_or_default();
            assert_eq!(names, want, "{url}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_an_error_that_names_it() {
        let directory = std::env::temp_dir().join(format!("carrack-tls-{}", std::process::id()));
        fs::create_dir_all(directory.join("a.example:443")).unwrap();
        let path = directory.join("a.example:443/ca.crt");
        fs::write(&path, "no certificate").unwrap();
        let sources = CertificateSources { per_host: vec![directory.clone()], ..CertificateSources::default() };
        let error = Trust::new(sources).config_for(&Url::parse("https://a.example/").unwrap()).unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(error.to_string(), format!("{} holds no usable certificate", path.display()));
    }
}
