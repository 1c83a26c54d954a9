//! Opens connections: name → address → TCP, through a proxy if there is one, → TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::dns::{self, DnsError};
use crate::proxy::{Proxies, Proxy};
use crate::tls::{CertificateError, Trust};

/// So long the first address has a head start before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(300);
/// A server on loopback that does not speak TLS may just wait for more; nothing there needs longer than this for a handshake.
const LOOPBACK_HANDSHAKE: Duration = Duration::from_secs(2);
/// A proxy's answer to CONNECT has no business to be longer.
const LONGEST_PROXY_ANSWER: usize = 16 * 1024;

/// A byte stream, plain or encrypted.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("find the address of {host}")]
    Resolve {
        /// Registry or proxy.
        host: String,
        /// Why.
        source: DnsError,
    },
    /// All addresses refused; the error is the last one's.
    #[error("connect to {host}:{port}")]
    Connect {
        /// Registry or proxy.
        host: String,
        /// Its port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("connect to {host}:{port}: no answer within {seconds} s")]
    TimedOut {
        /// Registry or proxy.
        host: String,
        /// Its port.
        port: u16,
        /// How long was waited.
        seconds: u64,
    },
    /// The proxy does not connect us.
    #[error("proxy {proxy} does not connect to {host}: it answers {answer:?}")]
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// Whom it should connect to.
        host: String,
        /// Its status line.
        answer: String,
    },
    /// The talk with the proxy broke off.
    #[error("ask proxy {proxy} for {host}")]
    ProxyBroken {
        /// The proxy's host and port.
        proxy: String,
        /// Whom it should connect to.
        host: String,
        /// How.
        source: io::Error,
    },
    /// The handshake failed, most often because of the certificate.
    #[error("set up TLS with {host}")]
    Tls {
        /// The server.
        host: String,
        /// What rustls says.
        source: io::Error,
    },
    /// The operator's certificate authorities cannot be used.
    #[error("set up TLS with {host}")]
    Certificates {
        /// The server.
        host: String,
        /// Which and why.
        source: CertificateError,
    },
}

impl DialError {
    /// Whether the server may be one that speaks no TLS at all: then loopback is tried without. A bad certificate is not such a case.
    pub(crate) fn may_be_plain_http(&self) -> bool {
        match self {
            Self::Tls { source, .. } => {
                match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => matches!(error, rustls::Error::InvalidMessage(_)),
                    None => true,
                }
            }
            // Port 443 is closed and port 80 may be open.
            Self::Connect { .. } => true,
            _ => false,
        }
    }

    /// Whether another try can help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::TimedOut { .. } | Self::ProxyBroken { .. } => true,
            Self::Tls { source, .. } => !source.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
            Self::Proxy { .. } | Self::Certificates { .. } => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) proxies: Proxies,
    pub(crate) trust: Trust,
    /// For each of: resolve and connect, proxy, TLS.
    pub(crate) patience: Duration,
}

impl Dialer {
    /// Connects to the server of `url` and does the handshake if it is https.
    pub(crate) async fn dial(&self, url: &Url) -> Result<Box<dyn Stream>, DialError> {
        let host = url.host().map(|host| host.to_owned()).unwrap_or_else(|| Host::Domain(String::new()));
        let port = url.port_or_known_default().unwrap_or(443);
        let stream: Box<dyn Stream> = match self.proxies.for_url(url) {
            None => Box::new(self.connect(&host, port).await?),
            Some(proxy) => self.through(proxy, &host, port).await?,
        };
        if url.scheme() == "https" { self.encrypt(stream, url, &host).await } else { Ok(stream) }
    }

    async fn connect(&self, host: &Host<String>, port: u16) -> Result<TcpStream, DialError> {
        let name = host.to_string();
        let race = async {
            let addresses =
                dns::addresses(host).await.map_err(|source| DialError::Resolve { host: name.clone(), source })?;
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
            race(addresses).await.map_err(|source| DialError::Connect { host: name.clone(), port, source })
        };
        let timed_out = DialError::TimedOut { host: name.clone(), port, seconds: self.patience.as_secs() };
        let stream = timeout(self.patience, race).await.map_err(|_| timed_out)??;
        // Requests are small and complete; a delay only makes them late. A socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn through(&self, proxy: &Proxy, host: &Host<String>, port: u16) -> Result<Box<dyn Stream>, DialError> {
        let name = format!("{}:{}", proxy.host, proxy.port);
        let tcp = self.connect(&proxy.host, proxy.port).await?;
        let mut stream: Box<dyn Stream> = Box::new(tcp);
        if proxy.tls {
            // Built from parts that were a URL's host and port, so it is a URL again; a failure would only fall to the handshake.
            let url = Url::parse(&format!("https://{name}/")).map_err(|_| DialError::Proxy {
                proxy: name.clone(),
                host: host.to_string(),
                answer: "no host".into(),
            })?;
            stream = self.encrypt(stream, &url, &proxy.host).await?;
        }
        let broken = |source| DialError::ProxyBroken { proxy: name.clone(), host: host.to_string(), source };
        let answer = timeout(self.patience, ask_to_connect(&mut stream, proxy, &format!("{host}:{port}")))
            .await
            .map_err(|_| broken(io::ErrorKind::TimedOut.into()))?
            .map_err(broken)?;
        if is_success(&answer) {
            return Ok(stream);
        }
        let answer = answer.chars().filter(|c| !c.is_control()).take(100).collect();
        Err(DialError::Proxy { proxy: name, host: host.to_string(), answer })
    }

    async fn encrypt(
        &self,
        stream: Box<dyn Stream>,
        url: &Url,
        host: &Host<String>,
    ) -> Result<Box<dyn Stream>, DialError> {
        let config =
            self.trust.config_for(url).map_err(|source| DialError::Certificates { host: host.to_string(), source })?;
        let failed = |source| DialError::Tls { host: host.to_string(), source };
        let name = match host {
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::V4(*address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::V6(*address)),
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|e| failed(io::Error::other(e)))?,
        };
        let is_local = url.host().is_some_and(|host| crate::endpoint::is_loopback(&host));
        let patience = if is_local { LOOPBACK_HANDSHAKE.min(self.patience) } else { self.patience };
        let handshake = TlsConnector::from(config).connect(name, stream);
        let encrypted = timeout(patience, handshake).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
        Ok(Box::new(encrypted.map_err(failed)?))
    }
}

/// Connects to the first address that answers; each next one is tried when the one before failed or had its head start.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            running.spawn(TcpStream::connect(address));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

/// Sends CONNECT and returns the answer's status line; everything up to the empty line is read and not one byte more.
async fn ask_to_connect(stream: &mut Box<dyn Stream>, proxy: &Proxy, authority: &str) -> io::Result<String> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some((user, password)) = &proxy.credentials {
        let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
        request += &format!("Proxy-Authorization: Basic {pair}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= LONGEST_PROXY_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
        // Byte by byte: what follows the empty line belongs to the server behind the proxy.
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

fn is_success(status_line: &str) -> bool {
    let mut words = status_line.split(' ');
    words.next().is_some_and(|version| version.starts_with("HTTP/1."))
        && words.next().is_some_and(|code| code.len() == 3 && code.starts_with('2'))
}
