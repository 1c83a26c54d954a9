//! A registry with images made on the spot, which misbehaves on request.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::http::{Request, Response, Server, write_head};
use crate::image::Image;
use crate::node::Node;

/// A way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// One byte of the blob is another.
    Corrupt {
        /// The blob.
        digest: String,
    },
    /// The registry has only the beginning of the blob.
    Truncate {
        /// The blob.
        digest: String,
        /// How many bytes it has.
        after: usize,
    },
    /// The connection ends after some bytes, the first time only: a client that resumes gets the rest.
    BreakOnce {
        /// The blob.
        digest: String,
        /// How many bytes are sent.
        after: usize,
    },
    /// Nothing comes after some bytes of the blob, until [`CannedRegistry::release`].
    Hold {
        /// The blob.
        digest: String,
        /// How many bytes are sent before.
        after: usize,
    },
    /// Every request is answered with this status.
    Status {
        /// The status.
        status: u16,
    },
}

/// See the module.
#[derive(Debug)]
pub struct CannedRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    media_types: BTreeMap<String, String>,
    /// `REPOSITORY:TAG` to the manifest's digest.
    tags: BTreeMap<String, String>,
    faults: Vec<Fault>,
    requests: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

impl CannedRegistry {
    /// An empty registry on the node's loopback.
    pub fn start(node: &Node) -> Self {
        Self::serve(node.listen("127.0.0.1:0").0)
    }

    /// An empty registry behind a socket that listens already.
    pub fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listening socket has an address");
        let shared = Arc::new(Shared::default());
        let for_server = Arc::clone(&shared);
        let server = Server::start(listener, move |request, stream| answer(&for_server, request, stream));
        Self { address, shared, _server: server }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Offers an image, and returns the reference by which it is pulled.
    pub fn publish(&self, repository: &str, tag: &str, image: &Image) -> String {
        let mut state = self.shared.state();
        state.blobs.extend(image.blobs.clone());
        state.tags.insert(format!("{repository}:{tag}"), image.manifest.clone());
        for (id, content) in &image.blobs {
            let media_type = serde_json::from_slice::<serde_json::Value>(content)
                .ok()
                .and_then(|value| Some(value["mediaType"].as_str()?.to_owned()));
            if let Some(media_type) = media_type {
                state.media_types.insert(id.clone(), media_type);
            }
        }
        format!("{}/{repository}:{tag}", self.address)
    }

    /// Misbehaves from now on.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Behaves again; what was held goes on.
    pub fn release(&self) {
        self.shared.state().faults.clear();
        self.shared.changed.notify_all();
    }

    /// Every request so far, as `GET /v2/…`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// How often a blob was asked for.
    pub fn blob_requests(&self, digest: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.starts_with("GET") && request.ends_with(&format!("/blobs/{digest}")))
            .count()
    }
}

fn answer(shared: &Shared, request: &Request, stream: &mut TcpStream) -> Option<Response> {
    shared.state().requests.push(format!("{} {}", request.method, request.target));
    let status = shared.state().faults.iter().find_map(|fault| match fault {
        Fault::Status { status } => Some(*status),
        _ => None,
    });
    if let Some(status) = status {
        return Some(Response::new(status, r#"{"errors":[{"code":"UNAVAILABLE","message":"out of order"}]}"#));
    }
    let path = request.target.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some(Response::new(200, "{}").header("Content-Type", "application/json"));
    }
    if let Some((repository, reference)) = path.split_once("/manifests/") {
        return Some(manifest(shared, repository, reference));
    }
    match path.split_once("/blobs/") {
        Some((_, digest)) => blob(shared, digest, request, stream),
        None => Some(Response::new(404, "{}")),
    }
}

fn manifest(shared: &Shared, repository: &str, reference: &str) -> Response {
    let state = shared.state();
    let digest = if reference.contains(':') {
        Some(reference.to_owned())
    } else {
        state.tags.get(&format!("{repository}:{reference}")).cloned()
    };
    let Some((digest, content)) =
        digest.and_then(|digest| state.blobs.get(&digest).map(|content| (digest.clone(), content.clone())))
    else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return Response::new(404, body).header("Content-Type", "application/json");
    };
    let media_type = state.media_types.get(&digest).cloned().unwrap_or_default();
    Response::new(200, content).header("Content-Type", media_type).header("Docker-Content-Digest", digest)
}

fn blob(shared: &Shared, digest: &str, request: &Request, stream: &mut TcpStream) -> Option<Response> {
    let Some(mut content) = shared.state().blobs.get(digest).cloned() else {
        return Some(Response::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#));
    };
    if shared.state().faults.contains(&Fault::Corrupt { digest: digest.to_owned() }) {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    }
    if let Some(length) = stored_length(shared, digest) {
        content.truncate(length);
    }
    let total = content.len();
    let from = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let mut response =
        Response::new(200, content).header("Content-Type", "application/octet-stream").header("Accept-Ranges", "bytes");
    if from.is_some_and(|from| from >= total) {
        return Some(Response::new(416, "").header("Content-Range", format!("bytes */{total}")));
    }
    if let Some(from) = from {
        response.status = 206;
        response.body.drain(..from);
        response = response.header("Content-Range", format!("bytes {from}-{}/{total}", total - 1));
    }
    if request.method == "HEAD" {
        return Some(response);
    }
    match stop_after(shared, digest) {
        None => Some(response),
        Some((after, is_held)) => {
            let rest = response.body.split_off(after.min(response.body.len()));
            response.claimed_length = Some(response.body.len() + rest.len());
            write_head(stream, &response)
                .and_then(|()| stream.write_all(&response.body))
                .and_then(|()| stream.flush())
                .ok()?;
            if is_held {
                wait_for_release(shared, digest);
                // The client may have been killed meanwhile.
                let _ = stream.write_all(&rest);
            }
            None
        }
    }
}

/// After how many bytes of a blob the connection ends or stands still.
fn stop_after(shared: &Shared, digest: &str) -> Option<(usize, bool)> {
    let mut state = shared.state();
    let position = state.faults.iter().position(|fault| match fault {
        Fault::BreakOnce { digest: one, .. } | Fault::Hold { digest: one, .. } => one == digest,
        Fault::Truncate { .. } | Fault::Corrupt { .. } | Fault::Status { .. } => false,
    })?;
    match state.faults[position].clone() {
        Fault::Hold { after, .. } => Some((after, true)),
        Fault::BreakOnce { after, .. } => {
            state.faults.remove(position);
            Some((after, false))
        }
        Fault::Truncate { .. } | Fault::Corrupt { .. } | Fault::Status { .. } => None,
    }
}

/// How much of a blob a registry with [`Fault::Truncate`] has.
fn stored_length(shared: &Shared, digest: &str) -> Option<usize> {
    shared.state().faults.iter().find_map(|fault| match fault {
        Fault::Truncate { digest: one, after } if one == digest => Some(*after),
        _ => None,
    })
}

fn wait_for_release(shared: &Shared, digest: &str) {
    let is_held = |state: &mut State| {
        state.faults.iter().any(|fault| matches!(fault, Fault::Hold { digest: one, .. } if one == digest))
    };
    // Bounded, so that a test which fails does not leave a thread for ever.
    let _ = shared.changed.wait_timeout_while(shared.state(), Duration::from_secs(300), is_held);
}
