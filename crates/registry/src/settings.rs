//! What the operator decides about the talk with registries.

use std::path::PathBuf;

use crate::back_off::Patience;
use crate::proxy::{Proxies, ProxyError};
use crate::tls::CertificateSources;

/// How registries are talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which proxies to go through.
    pub proxies: Proxies,
    /// Whom to trust.
    pub certificates: CertificateSources,
    /// Docker's `config.json`; none if there is no home directory. The file need not exist.
    pub docker_config: Option<PathBuf>,
    /// Deadlines and retries.
    pub patience: Patience,
    /// The `User-Agent` header; visible ASCII.
    pub user_agent: String,
}

impl Default for Settings {
    /// Straight, with the system's authorities and nobody's credentials.
    fn default() -> Self {
        Self {
            proxies: Proxies::default(),
            certificates: CertificateSources::default(),
            docker_config: None,
            patience: Patience::default(),
            user_agent: concat!("carrack/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Settings {
    /// Reads `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, `SSL_CERT_DIR`, `DOCKER_CONFIG` and `HOME` with `variable`, which looks an environment
    /// variable up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker_directory = path("DOCKER_CONFIG").or_else(|| path("HOME").map(|home| home.join(".docker")));
        let directories = variable("SSL_CERT_DIR").unwrap_or_default();
        let directories = directories.split(':').filter(|one| !one.is_empty()).map(PathBuf::from).collect();
        Ok(Self {
            proxies: Proxies::from_variables(&variable)?,
            certificates: CertificateSources {
                file: path("SSL_CERT_FILE"),
                directories,
                ..CertificateSources::default()
            },
            docker_config: docker_directory.map(|directory| directory.join("config.json")),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_where_files_are() {
        let read = |variables: &[(&str, &str)]| {
            Settings::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
            .unwrap()
        };
        assert_eq!(read(&[]), Settings::default());
        assert_eq!(read(&[("HOME", "/root")]).docker_config, Some("/root/.docker/config.json".into()));
        let all = read(&[
            ("HOME", "/root"),
            ("DOCKER_CONFIG", "/d"),
            ("SSL_CERT_FILE", "/ca.pem"),
            ("SSL_CERT_DIR", "/a::/b"),
        ]);
        assert_eq!(all.docker_config, Some("/d/config.json".into()));
        assert_eq!(all.certificates.file, Some("/ca.pem".into()));
        assert_eq!(all.certificates.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
