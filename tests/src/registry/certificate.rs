//! Certificates and signatures, by the openssl program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, run_with_input};

/// A key with a certificate of its own for loopback names.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The private key.
    pub key: PathBuf,
    /// The certificate; who trusts it trusts the server.
    pub certificate: PathBuf,
}

impl Certificate {
    /// Makes one in `directory`, valid for `localhost`, 127.0.0.1 and ::1.
    pub fn make(directory: &Path) -> Self {
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]))
        .ok();
        Self { key, certificate }
    }

    /// The certificate's bytes as they stand between the PEM lines: base64 of DER.
    pub fn base64(&self) -> String {
        let text = std::fs::read_to_string(&self.certificate).expect("it was just made");
        text.lines().filter(|line| !line.starts_with("-----")).collect()
    }

    /// Signs with RSA and SHA-256 (RS256 of RFC 7518).
    pub fn sign(&self, message: &[u8], directory: &Path) -> Vec<u8> {
        let signature = directory.join(format!("signature-{:?}", std::thread::current().id()));
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-sign"]).arg(&self.key).arg("-out").arg(&signature);
        run_with_input(&mut command, message).ok();
        std::fs::read(&signature).expect("openssl wrote it")
    }
}
