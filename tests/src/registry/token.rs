//! A token server for a registry (distribution specification, "Token Authentication"): checks a password, signs JSON web tokens.
//!
//! Without a password a client gets a token that allows nothing, as with a private repository.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::certificate::Certificate;
use super::debian::{PASSWORD, USER};
use super::http::{Request, Response, Server};
use crate::node::Node;

/// See the module.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    certificate: Certificate,
    requests: Arc<Mutex<Vec<String>>>,
    _server: Server,
}

impl TokenServer {
    /// What tokens are for.
    pub const SERVICE: &'static str = "carrack-registry";
    /// Who signs them.
    pub const ISSUER: &'static str = "carrack-tests";

    /// Starts one on the node's loopback.
    pub fn start(node: &Node) -> Self {
        let directory = node.place().directory("token-server");
        let certificate = Certificate::make(&directory);
        let (listener, address) = node.listen("127.0.0.1:0");
        let requests = Arc::new(Mutex::new(vec![]));
        let (signer, seen) = (certificate.clone(), Arc::clone(&requests));
        let server = Server::start(listener, move |request, _| {
            seen.lock().expect("nobody panics with the lock").push(request.target.clone());
            Some(answer(&signer, &directory, request))
        });
        Self { address, certificate, requests, _server: server }
    }

    /// Where the registry sends its clients.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// What the registry must trust.
    pub fn authority(&self) -> PathBuf {
        self.certificate.authority.clone()
    }

    /// The requests so far: path and query.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("nobody panics with the lock").clone()
    }
}

fn answer(signer: &Certificate, directory: &Path, request: &Request) -> Response {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let wanted = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let access = match request.headers.get("authorization").and_then(|value| value.strip_prefix("Basic ")) {
        Some(given) if given == wanted => access_of(query),
        Some(_) => return Response::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#),
        None => vec![],
    };
    let token = sign(signer, directory, &access);
    let body = json!({ "token": token, "access_token": token, "expires_in": 300 });
    Response::new(200, body.to_string()).header("Content-Type", "application/json")
}

/// `scope=repository:NAME:ACTION,…` of a query, as what a token grants.
fn access_of(query: &str) -> Vec<Value> {
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    scopes
        .map(|scope| {
            scope
                .replace("%3A", ":")
                .replace("%2F", "/")
                .replace("%2C", ",")
                .replace("%3a", ":")
                .replace("%2f", "/")
                .replace("%2c", ",")
        })
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
        })
        .collect()
}

fn sign(signer: &Certificate, directory: &Path, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [signer.base64()] });
    let claims = json!({
        "iss": TokenServer::ISSUER, "sub": USER, "aud": TokenServer::SERVICE, "iat": now, "nbf": now - 10, "exp": now + 300,
        "jti": now.to_string(), "access": access,
    });
    let message =
        format!("{}.{}", url_base64(header.to_string().as_bytes()), url_base64(claims.to_string().as_bytes()));
    let signature = signer.sign(message.as_bytes(), directory);
    format!("{message}.{}", url_base64(&signature))
}

fn url_base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
