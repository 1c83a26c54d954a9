//! Docker's `config.json`: which credentials, or which helper program, a registry has.
//!
//! Wire format of the Docker client (`auths`, `credHelpers`, `credsStore`); everything else in the file is somebody else's. A helper for the
//! one registry comes before the helper for all, and that before what stands in the file itself.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::credentials::{Credentials, decode_auth, is_meant_for};
use crate::{Endpoint, Secret};

/// Nobody has a `config.json` of this size.
const LONGEST_FILE: u64 = 4 << 20;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It cannot be read. A missing file is no error.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too long to be one.
    #[error("{path} is longer than {LONGEST_FILE} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not JSON of the known form. The parser's text is left out but for the place: it could quote a secret.
    #[error("{path} is malformed at line {line} column {column}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An entry of `auths` is unusable.
    #[error("{path}: the entry {key:?} has a malformed auth")]
    MalformedAuth {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
    },
}

#[derive(Debug, Default, Deserialize)]
struct File {
    auths: Option<HashMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<HashMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<Secret>,
}

/// One place to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Ask `docker-credential-<suffix>` for `server`.
    Helper { suffix: String, server: String },
    /// The file has them.
    Known(Credentials),
}

/// Reads the file and says where to look, in order. An empty list means anonymous.
pub(crate) fn load_sources(path: &Path, registry: &Endpoint) -> Result<Vec<Source>, DockerConfigError> {
    let text = match std::fs::metadata(path) {
        Ok(found) if found.len() > LONGEST_FILE => return Err(DockerConfigError::TooLong { path: path.to_owned() }),
        Ok(_) => std::fs::read(path),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => parse_sources(path, &text, registry),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(source) => Err(DockerConfigError::Read { path: path.to_owned(), source }),
    }
}

fn parse_sources(path: &Path, text: &[u8], registry: &Endpoint) -> Result<Vec<Source>, DockerConfigError> {
    // Docker takes an empty file as an empty configuration.
    let file: File = if text.iter().all(u8::is_ascii_whitespace) {
        File::default()
    } else {
        serde_json::from_slice(text).map_err(|error| DockerConfigError::Malformed {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?
    };
    let mut sources = Vec::new();
    let mut helpers: Vec<_> = file.helpers.unwrap_or_default().into_iter().collect();
    // A map has no order; the exact name comes first, and then it is always the same one.
    helpers.sort_by_key(|(key, _)| (key != registry.name(), key.clone()));
    let own = helpers.into_iter().find(|(key, _)| is_meant_for(key, registry.name()));
    sources.extend(own.map(|(server, suffix)| Source::Helper { suffix, server }));
    if let Some(suffix) = file.store.filter(|suffix| !suffix.is_empty()) {
        sources.extend(registry.credential_keys().into_iter().next().map(|server| Source::Helper { suffix, server }));
    }
    let mut entries: Vec<_> = file.auths.unwrap_or_default().into_iter().collect();
    entries.sort_by_key(|(key, _)| {
        let rank = registry.credential_keys().iter().position(|known| known == key);
        (rank.unwrap_or(usize::MAX), key.clone())
    });
    for (key, entry) in entries {
        if !is_meant_for(&key, registry.name()) {
            continue;
        }
        let malformed = || DockerConfigError::MalformedAuth { path: path.to_owned(), key: key.clone() };
        if let Some(known) = entry.map(credentials).transpose().map_err(|Malformed| malformed())?.flatten() {
            sources.push(Source::Known(known));
            break;
        }
    }
    Ok(sources)
}

struct Malformed;

fn credentials(entry: Entry) -> Result<Option<Credentials>, Malformed> {
    let there = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().is_empty());
    if let Some(token) = there(entry.registry_token) {
        return Ok(Some(Credentials::RegistryToken(token)));
    }
    if let Some(token) = there(entry.identity_token) {
        return Ok(Some(Credentials::IdentityToken(token)));
    }
    if let Some(auth) = there(entry.auth) {
        return decode_auth(&auth).map(Some).ok_or(Malformed);
    }
    let user = entry.username.filter(|user| !user.is_empty());
    Ok(user.map(|user| Credentials::basic(user, entry.password.unwrap_or_else(|| Secret::new("")))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str, registry: &str) -> Result<Vec<Source>, String> {
        parse_sources(Path::new("config.json"), text.as_bytes(), &Endpoint::new(registry).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_registrys_helper_comes_first_then_the_store_then_the_file() {
        let text = r#"{
            "auths": {"https://index.docker.io/v1/": {"auth": "aHViOmh1YnB3"}, "a.example": {"auth": "YTpi", "email": "x"},
                      "b.example": {"identitytoken": "refresh", "auth": "PHRva2VuPjo="}, "c.example": {}, "d.example": null},
            "credHelpers": {"a.example": "one"}, "credsStore": "all", "HttpHeaders": {"x": "y"}
        }"#;
        let helper = |suffix: &str, server: &str| Source::Helper { suffix: suffix.into(), server: server.into() };
        let basic = |user: &str, password: &str| {
            Source::Known(Credentials::Basic { user: user.into(), password: Secret::new(password) })
        };
        for (registry, want) in [
            ("a.example", vec![helper("one", "a.example"), helper("all", "a.example"), basic("a", "b")]),
            ("docker.io", vec![helper("all", "https://index.docker.io/v1/"), basic("hub", "hubpw")]),
            (
                "b.example",
                vec![helper("all", "b.example"), Source::Known(Credentials::IdentityToken(Secret::new("refresh")))],
            ),
            ("c.example", vec![helper("all", "c.example")]),
            ("d.example", vec![helper("all", "d.example")]),
        ] {
            assert_eq!(sources(text, registry), Ok(want), "{registry}");
        }
        assert_eq!(sources("", "a.example"), Ok(vec![]));
        assert_eq!(sources("{\"auths\": null}", "a.example"), Ok(vec![]));
    }

    #[test]
    fn a_malformed_file_is_named_and_not_quoted() {
        assert_eq!(
            sources("{\"auths\": {\"a.example\": \"secret\"}}", "a.example"),
            Err("config.json is malformed at line 1 column 32".into())
        );
        assert_eq!(
            sources("{\"auths\": {\"a.example\": {\"auth\": \"!\"}}}", "a.example"),
            Err("config.json: the entry \"a.example\" has a malformed auth".into())
        );
    }

    #[test]
    fn a_missing_file_means_anonymous() {
        let endpoint = Endpoint::new("a.example").unwrap();
        assert_eq!(load_sources(Path::new("/nonexistent/config.json"), &endpoint).unwrap(), vec![]);
    }
}
