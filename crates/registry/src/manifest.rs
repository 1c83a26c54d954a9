//! Fetching manifests and indexes, as bytes: what they mean is not the registry client's business.

use std::fmt;

use carrack_words::{Digest, DigestError, ImageRef};
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::RegistryError;
use crate::error::Said;
use crate::media_type;
use crate::repository::{Question, Repository};
use crate::transport::Answer;

/// No manifest may be longer; the distribution specification advises registries to accept at least so much.
pub const LONGEST_MANIFEST: usize = 4 << 20;
const CONTENT_DIGEST: &str = "docker-content-digest";

/// By what a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestReference {
    /// A tag: the registry decides what it is.
    Tag(String),
    /// A digest: only these bytes will do.
    Digest(Digest),
}

impl ManifestReference {
    /// How `image` names its manifest: by its digest if it has one.
    pub fn of(image: &ImageRef) -> Self {
        match (image.digest(), image.tag()) {
            (Some(digest), _) => Self::Digest(*digest),
            (None, tag) => Self::Tag(tag.expect("an ImageRef without a digest has a tag").to_owned()),
        }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A manifest's or index's bytes. They are those of `digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// `Content-Type` without parameters, lower case; none if the registry said nothing.
    pub media_type: Option<String>,
    /// sha256 of `bytes`.
    pub digest: Digest,
    /// The document.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Asks which digest a manifest has, without fetching it (which rate limits do not count). None: the registry does not say.
    pub async fn manifest_digest(&self, reference: &ManifestReference) -> Result<Option<Digest>, RegistryError> {
        let what = self.describe(reference);
        let answer = self.ask_manifest(Method::HEAD, reference, &what).await;
        match answer {
            Ok(answer) => self.promised_digest(&answer, &what),
            // Some registries do not offer HEAD here.
            Err(RegistryError::Status { status: 405, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a manifest or index. Its bytes are checked against the digest in `reference` and the one in the answer.
    pub async fn manifest(&self, reference: &ManifestReference) -> Result<RawManifest, RegistryError> {
        let what = self.describe(reference);
        let answer = self.ask_manifest(Method::GET, reference, &what).await?;
        let too_large = || RegistryError::TooLarge {
            registry: self.registry().to_owned(),
            what: what.clone(),
            limit_bytes: LONGEST_MANIFEST,
        };
        let announced = answer.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > LONGEST_MANIFEST as u64) {
            return Err(too_large());
        }
        let promised = self.promised_digest(&answer, &what)?;
        let media_type = answer.header(CONTENT_TYPE).map(bare_media_type).filter(|text| !text.is_empty());
        let body = answer.body.collect(LONGEST_MANIFEST).await;
        let bytes = body.map_err(|source| RegistryError::no_answer(&self.registry(), source))?.ok_or_else(too_large)?;
        let digest = Digest::from_sha256(Sha256::digest(&bytes).into());
        let asked = match reference {
            ManifestReference::Digest(digest) => Some(*digest),
            ManifestReference::Tag(_) => None,
        };
        if let Some(want) = [asked, promised].into_iter().flatten().find(|want| *want != digest) {
            return Err(RegistryError::WrongDigest { registry: self.registry().to_owned(), what, want, got: digest });
        }
        Ok(RawManifest { media_type, digest, bytes })
    }

    fn describe(&self, reference: &ManifestReference) -> String {
        format!("manifest {reference} of {}", self.name())
    }

    async fn ask_manifest(
        &self,
        method: Method,
        reference: &ManifestReference,
        what: &str,
    ) -> Result<Answer, RegistryError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media_type::ACCEPT))]);
        self.ask(&Question { method, path: &format!("manifests/{reference}"), headers, what }).await
    }

    /// The digest in the answer's header. One of another algorithm is passed over; one that is none is an error.
    fn promised_digest(&self, answer: &Answer, what: &str) -> Result<Option<Digest>, RegistryError> {
        let Some(value) = answer.headers.get(CONTENT_DIGEST) else { return Ok(None) };
        let text = String::from_utf8_lossy(value.as_bytes());
        match text.parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(DigestError::Algorithm { .. }) => Ok(None),
            Err(DigestError::Malformed { .. }) => Err(RegistryError::Header {
                registry: self.registry().to_owned(),
                what: what.to_owned(),
                header: "Docker-Content-Digest",
                said: Said::new(&text),
            }),
        }
    }
}

fn bare_media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_decides_where_there_is_one() {
        let digest = Digest::from_sha256([1; 32]);
        let of = |text: &str| ManifestReference::of(&text.parse().unwrap());
        assert_eq!(of("alpine"), ManifestReference::Tag("latest".into()));
        assert_eq!(of(&format!("alpine:3@{digest}")), ManifestReference::Digest(digest));
    }

    #[test]
    fn parameters_of_a_media_type_are_left_out() {
        assert_eq!(bare_media_type("Application/JSON; charset=utf-8"), "application/json");
    }
}
