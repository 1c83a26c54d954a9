//! Fetching blobs: as a stream that survives broken connections, or whole if they are small.

use carrack_words::Digest;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use crate::RegistryError;
use crate::back_off::jitter;
use crate::error::{Said, SizeSeen};
use crate::repository::{Question, Repository};
use crate::transport::Body;

impl Repository {
    /// A stream of the blob's bytes, which are to be `size_bytes`. Nothing is sent before the first [`BlobStream::next`].
    pub fn blob<'a>(&'a self, digest: &Digest, size_bytes: u64) -> BlobStream<'a> {
        let what = format!("blob {digest} of {}", self.name());
        BlobStream {
            repository: self,
            digest: *digest,
            what,
            size_bytes,
            at_bytes: 0,
            skip_bytes: 0,
            body: None,
            failures: 0,
        }
    }

    /// The whole blob, checked for size and digest. For configurations; `limit_bytes` bounds what is held in memory.
    pub async fn blob_bytes(
        &self,
        digest: &Digest,
        size_bytes: u64,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut stream = self.blob(digest, size_bytes);
        if size_bytes > limit_bytes as u64 {
            return Err(RegistryError::TooLarge {
                registry: self.registry().to_owned(),
                what: stream.what,
                limit_bytes,
            });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let got = Digest::from_sha256(Sha256::digest(&bytes).into());
        if got != *digest {
            return Err(RegistryError::WrongDigest {
                registry: self.registry().to_owned(),
                what: stream.what,
                want: *digest,
                got,
            });
        }
        Ok(bytes)
    }
}

/// A blob on its way. It yields exactly as many bytes as were promised or an error; whether they are the right ones is for the caller to
/// hash. After an error it is done. Dropping it closes the connection.
pub struct BlobStream<'a> {
    repository: &'a Repository,
    digest: Digest,
    what: String,
    size_bytes: u64,
    /// So many were handed out.
    at_bytes: u64,
    /// So many of the present body are known already: the server started over.
    skip_bytes: u64,
    body: Option<Body>,
    /// Broken bodies since the last progress.
    failures: u32,
}

impl BlobStream<'_> {
    /// The next piece; none at the end. A broken connection is taken up again where it broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(body) = self.body.as_mut() else {
                if self.at_bytes == self.size_bytes && (self.size_bytes > 0 || self.failures > 0) {
                    return Ok(None);
                }
                let body = self.open().await?;
                self.body = Some(body);
                continue;
            };
            match body.next().await {
                Ok(Some(piece)) => {
                    if let Some(piece) = self.take(piece)? {
                        return Ok(Some(piece));
                    }
                }
                Ok(None) if self.at_bytes == self.size_bytes => return Ok(None),
                // Short, though properly ended: a proxy in between does that.
                Ok(None) => self.pause(None).await?,
                // All is here; that the end of it broke does not matter.
                Err(_) if self.at_bytes == self.size_bytes => {
                    self.body = None;
                    self.failures = 1;
                }
                Err(error) => self.pause(Some(error)).await?,
            }
        }
    }

    /// What of a piece is new.
    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let known = self.skip_bytes.min(piece.len() as u64);
        self.skip_bytes -= known;
        let piece = piece.split_off(known as usize);
        if piece.is_empty() {
            return Ok(None);
        }
        if piece.len() as u64 > self.size_bytes - self.at_bytes {
            return Err(self.wrong_size(SizeSeen::More));
        }
        self.at_bytes += piece.len() as u64;
        self.failures = 0;
        Ok(Some(piece))
    }

    async fn open(&mut self) -> Result<Body, RegistryError> {
        let mut headers = HeaderMap::new();
        if self.at_bytes > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", self.at_bytes))
                .expect("digits and a dash fit into a header");
            headers.insert(RANGE, range);
        }
        let path = format!("blobs/{}", self.digest);
        let answer =
            self.repository.ask(&Question { method: Method::GET, path: &path, headers, what: &self.what }).await?;
        let starts_at = if answer.status == StatusCode::PARTIAL_CONTENT {
            let range = answer.header(CONTENT_RANGE).unwrap_or_default();
            let bad = || RegistryError::Header {
                registry: self.repository.registry().to_owned(),
                what: self.what.clone(),
                header: "Content-Range",
                said: Said::new(range),
            };
            parse_range_start(range).filter(|start| *start <= self.at_bytes).ok_or_else(bad)?
        } else {
            0
        };
        let announced = answer.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if let Some(bytes) =
            announced.and_then(|bytes| bytes.checked_add(starts_at)).filter(|bytes| *bytes != self.size_bytes)
        {
            return Err(self.wrong_size(SizeSeen::Exactly(bytes)));
        }
        self.skip_bytes = self.at_bytes - starts_at;
        Ok(answer.body)
    }

    /// Waits before the next try, or gives up.
    async fn pause(&mut self, error: Option<crate::transport::TransportError>) -> Result<(), RegistryError> {
        self.body = None;
        self.failures += 1;
        match self.repository.patience().pause_after(self.failures, None, jitter()) {
            Some(pause) => {
                sleep(pause).await;
                Ok(())
            }
            None => Err(match error {
                Some(source) => RegistryError::no_answer(&self.repository.registry(), source),
                None => RegistryError::Truncated {
                    registry: self.repository.registry().to_owned(),
                    what: self.what.clone(),
                    want_bytes: self.size_bytes,
                    got_bytes: self.at_bytes,
                },
            }),
        }
    }

    fn wrong_size(&self, got: SizeSeen) -> RegistryError {
        RegistryError::WrongSize {
            registry: self.repository.registry().to_owned(),
            what: self.what.clone(),
            want_bytes: self.size_bytes,
            got,
        }
    }
}

/// The first byte's number in `bytes 10-99/100`.
fn parse_range_start(value: &str) -> Option<u64> {
    let (start, _) = value.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_starts_with_a_number() {
        for (value, want) in [
            ("bytes 10-99/100", Some(10)),
            ("bytes 0-99/*", Some(0)),
            ("bytes */100", None),
            ("items 1-2/3", None),
            ("bytes -1-2/3", None),
            ("", None),
        ] {
            assert_eq!(parse_range_start(value), want, "{value}");
        }
    }
}
