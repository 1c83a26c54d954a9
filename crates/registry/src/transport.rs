//! One HTTP/1.1 request and its answer, over a connection that is kept for the next one.
//!
//! No retries, no redirects, no authentication: those are [`crate::repository`]'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use url::Url;

use crate::dial::{DialError, Dialer};
use crate::endpoint::shown;

/// Idle connections per server. A pull has a handful of layers under way at once.
const IDLE_PER_SERVER: usize = 8;
/// Servers close idle connections after a minute or more; older ones are not worth the try.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// A request got no answer, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// There is no connection.
    #[error("{method} {url}")]
    Dial {
        /// The method.
        method: Method,
        /// The URL without secrets.
        url: String,
        /// Why.
        source: Box<DialError>,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{method} {url}: the connection broke")]
    Broken {
        /// The method.
        method: Method,
        /// The URL without secrets.
        url: String,
        /// What hyper says.
        source: hyper::Error,
    },
    /// The server fell silent.
    #[error("{method} {url}: nothing came for {seconds} s")]
    Stalled {
        /// The method.
        method: Method,
        /// The URL without secrets.
        url: String,
        /// The deadline.
        seconds: u64,
    },
    /// The request cannot be put on the wire.
    #[error("{method} {url}: a value does not fit into a header")]
    Unsendable {
        /// The method.
        method: Method,
        /// The URL without secrets.
        url: String,
    },
}

impl TransportError {
    /// Whether another try can help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Dial { source, .. } => source.is_transient(),
            Self::Broken { .. } | Self::Stalled { .. } => true,
            Self::Unsendable { .. } => false,
        }
    }

    /// Whether there was a connection: then what failed is the talk.
    pub(crate) fn is_connected(&self) -> bool {
        !matches!(self, Self::Dial { .. })
    }

    pub(crate) fn may_be_plain_http(&self) -> bool {
        matches!(self, Self::Dial { source, .. } if source.may_be_plain_http())
    }
}

/// A request. All of ours may be repeated.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Without Host and User-Agent. Secrets among them are marked sensitive.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Answer {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The body of an answer. Dropping it before its end closes the connection.
pub(crate) struct Body {
    incoming: Incoming,
    /// Given back to the pool at the body's end.
    connection: Option<(Key, SendRequest<Full<Bytes>>, Arc<Pool>)>,
    progress: Duration,
    method: Method,
    url: String,
}

impl Body {
    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            let frame = timeout(self.progress, self.incoming.frame()).await.map_err(|_| TransportError::Stalled {
                method: self.method.clone(),
                url: self.url.clone(),
                seconds: self.progress.as_secs(),
            })?;
            match frame {
                None => {
                    if let Some((key, sender, pool)) = self.connection.take() {
                        pool.put(key, sender);
                    }
                    return Ok(None);
                }
                Some(Err(source)) => {
                    self.connection = None;
                    return Err(TransportError::Broken { method: self.method.clone(), url: self.url.clone(), source });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, or none if it is longer than `limit_bytes`; no more than that is ever held.
    pub(crate) async fn collect(mut self, limit_bytes: usize) -> Result<Option<Vec<u8>>, TransportError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if bytes.len() + piece.len() > limit_bytes {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }
}

/// Scheme, host and port.
type Key = (String, String, u16);

/// A connection and since when it has nothing to do.
type Idle = (SendRequest<Full<Bytes>>, Instant);

#[derive(Default)]
struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
}

impl Pool {
    fn take(&self, key: &Key) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(key)?;
        while let Some((sender, since)) = connections.pop() {
            if since.elapsed() < IDLE_FOR && !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, key: Key, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever puts one back throws the stale ones out, or a daemon would keep them for good.
        idle.retain(|_, connections| {
            connections.retain(|(sender, since)| since.elapsed() < IDLE_FOR && !sender.is_closed());
            !connections.is_empty()
        });
        let connections = idle.entry(key).or_default();
        if connections.len() < IDLE_PER_SERVER && !sender.is_closed() {
            connections.push((sender, Instant::now()));
        }
    }
}

pub(crate) struct Transport {
    dialer: Dialer,
    pool: Arc<Pool>,
    progress: Duration,
    user_agent: HeaderValue,
}

impl Transport {
    pub(crate) fn new(dialer: Dialer, progress: Duration, user_agent: HeaderValue) -> Self {
        Self { dialer, pool: Arc::default(), progress, user_agent }
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Answer, TransportError> {
        let key = (
            outgoing.url.scheme().to_owned(),
            outgoing.url.host_str().unwrap_or_default().to_owned(),
            outgoing.url.port_or_known_default().unwrap_or_default(),
        );
        // The server may have closed an idle connection meanwhile; that says nothing about its health, so a fresh one is tried at once.
        while let Some(mut sender) = self.pool.take(&key) {
            if sender.ready().await.is_err() {
                continue;
            }
            match self.exchange(sender, &key, outgoing).await {
                Err(TransportError::Broken { .. }) => continue,
                other => return other,
            }
        }
        let stream = self.dialer.dial(&outgoing.url).await.map_err(|source| TransportError::Dial {
            method: outgoing.method.clone(),
            url: shown(&outgoing.url),
            source: Box::new(source),
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|source| self.broken(outgoing, source))?;
        // It ends when the sender and the body are gone. Its error is also told to whoever waits for the answer or the body.
        tokio::spawn(connection);
        self.exchange(sender, &key, outgoing).await
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        key: &Key,
        outgoing: &Outgoing,
    ) -> Result<Answer, TransportError> {
        let request = self.request(outgoing)?;
        let answer =
            timeout(self.progress, sender.send_request(request)).await.map_err(|_| TransportError::Stalled {
                method: outgoing.method.clone(),
                url: shown(&outgoing.url),
                seconds: self.progress.as_secs(),
            })?;
        let (head, incoming) = answer.map_err(|source| self.broken(outgoing, source))?.into_parts();
        let body = Body {
            incoming,
            connection: Some((key.clone(), sender, self.pool.clone())),
            progress: self.progress,
            method: outgoing.method.clone(),
            url: shown(&outgoing.url),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn request(&self, outgoing: &Outgoing) -> Result<Request<Full<Bytes>>, TransportError> {
        let unsendable = || TransportError::Unsendable { method: outgoing.method.clone(), url: shown(&outgoing.url) };
        let url = &outgoing.url;
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        let mut request = Request::builder()
            .method(outgoing.method.clone())
            .uri(target)
            .body(Full::new(outgoing.body.clone()))
            .map_err(|_| unsendable())?;
        *request.headers_mut() = outgoing.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&host).map_err(|_| unsendable())?);
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        Ok(request)
    }

    fn broken(&self, outgoing: &Outgoing, source: hyper::Error) -> TransportError {
        TransportError::Broken { method: outgoing.method.clone(), url: shown(&outgoing.url), source }
    }
}
