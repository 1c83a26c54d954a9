//! Certificates and signatures, by the openssl program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, run_with_input};

/// A key with a certificate for loopback names, and the authority that signed it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The private key.
    pub key: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// The certificate of the authority; who trusts it trusts the server.
    pub authority: PathBuf,
}

impl Certificate {
    /// Makes one in `directory`, valid for `localhost`, 127.0.0.1 and ::1.
    pub fn make(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name);
        let openssl = |arguments: &[&str]| {
            run(Command::new("openssl").current_dir(directory).args(arguments)).ok();
        };
        let key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"];
        openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-subj",
                    "/CN=Carrack test authority",
                    "-keyout",
                    "authority-key.pem",
                    "-out",
                    "authority.pem",
                ],
                &key[..],
            ]
            .concat(),
        );
        let request =
            [&["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem"], &key[..3]].concat();
        openssl(&request);
        std::fs::write(
            file("extensions"),
            "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n",
        )
        .expect("the test's directory is writable");
        openssl(&[
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority-key.pem",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "certificate.pem",
        ]);
        Self { key: file("key.pem"), certificate: file("certificate.pem"), authority: file("authority.pem") }
    }

    /// Makes one in `directory` that signs itself, as people do who have no authority, valid for 127.0.0.1.
    pub fn self_signed(directory: &Path) -> Self {
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry"]);
        command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        run(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).ok();
        Self { key, authority: certificate.clone(), certificate }
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
