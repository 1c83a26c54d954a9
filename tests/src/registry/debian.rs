//! Debian's `docker-registry` inside a node: plain, with TLS and passwords, or with a token server.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::certificate::Certificate;
use super::token::TokenServer;
use crate::command::{Running, run, start};
use crate::node::{Node, children_of, kill};
use crate::wait::wait_until;

/// The user that a registry with passwords knows.
pub const USER: &str = "sailor";
/// Its password.
pub const PASSWORD: &str = "tar-and-rope";

/// A running registry; ends with its node at the latest.
#[derive(Debug)]
pub struct DebianRegistry {
    address: SocketAddr,
    /// What a client of a registry with TLS must trust.
    pub certificate: Option<Certificate>,
    running: Option<Running>,
}

impl DebianRegistry {
    /// Plain HTTP for everybody.
    pub fn plain(node: &Node) -> Self {
        Self::start(node, "", None)
    }

    /// HTTPS, and a password for everything.
    pub fn with_password(node: &Node) -> Self {
        let directory = node.place().directory("registry-tls");
        let certificate = Certificate::make(&directory);
        let passwords = run(Command::new("htpasswd").args(["-Bbn", USER, PASSWORD])).ok();
        let file = directory.join("htpasswd");
        std::fs::write(&file, passwords).expect("the test's directory is writable");
        let auth = format!("auth:\n  htpasswd:\n    realm: harbour\n    path: {}\n", file.display());
        Self::start(node, &auth, Some(certificate))
    }

    /// HTTPS for everybody, with a certificate that signs itself.
    pub fn with_self_signed(node: &Node) -> Self {
        let directory = node.place().directory("registry-self-signed");
        Self::start(node, "", Some(Certificate::self_signed(&directory)))
    }

    /// Plain HTTP, and tokens of `server` for everything.
    pub fn with_tokens(node: &Node, server: &TokenServer) -> Self {
        let auth = format!(
            "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
            server.realm(),
            TokenServer::SERVICE,
            TokenServer::ISSUER,
            server.authority().display(),
        );
        Self::start(node, &auth, None)
    }

    fn start(node: &Node, auth: &str, certificate: Option<Certificate>) -> Self {
        // The node's network is its own, so a port that is free now stays free.
        let (listener, address) = node.listen("127.0.0.1:0");
        drop(listener);
        let name = format!("registry-{}", address.port());
        let storage = node.place().directory(&name);
        let tls = certificate.as_ref().map_or(String::new(), |one| {
            format!("  tls:\n    certificate: {}\n    key: {}\n", one.certificate.display(), one.key.display())
        });
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
             delete:\n    enabled: true\n{auth}http:\n  addr: {address}\n  secret: test\n{tls}",
            storage.display(),
        );
        let file = node.place().file(&format!("{name}.yml"), config);
        let running = start(node.fixture("docker-registry").arg("serve").arg(file).stdin(Stdio::null()));
        let registry = Self { address, certificate, running: Some(running) };
        wait_until("docker-registry listens", Duration::from_secs(60), || {
            node.in_network(move || TcpStream::connect(address).is_ok())
        });
        registry
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Copies an image of an OCI layout (`DIRECTORY:TAG`) into the registry with skopeo, and returns its reference.
    pub fn push(&self, node: &Node, layout: &Path, layout_tag: &str, name: &str) -> String {
        self.push_with(node, &format!("oci:{}:{layout_tag}", layout.display()), name, &[])
    }

    /// The same for any source that skopeo knows, with more of its flags.
    pub fn push_with(&self, node: &Node, source: &str, name: &str, flags: &[&str]) -> String {
        let reference = format!("{}/{name}", self.address);
        run(node
            .fixture("skopeo")
            .args([
                "copy",
                "--insecure-policy",
                "--dest-tls-verify=false",
                "--dest-creds",
                &format!("{USER}:{PASSWORD}"),
            ])
            .args(flags)
            .arg(source)
            .arg(format!("docker://{reference}")))
        .ok();
        reference
    }

    /// Its access log so far.
    pub fn log(&self) -> String {
        self.running.as_ref().map(|running| running.stdout() + &running.stderr()).unwrap_or_default()
    }

    /// Ends it: from now on nobody answers.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            children_of(running.child.id()).into_iter().for_each(kill);
            running.kill();
        }
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}
