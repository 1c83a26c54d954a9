//! Verifies servers: by the chain to a trust anchor, or because the server shows a trust anchor itself.
//!
//! What `openssl req -x509` makes without further ado is a certificate that signs itself and calls itself an authority. Put on a registry and in
//! `certs.d`, it is the usual private registry, and clients on OpenSSL and Go accept it. webpki refuses every authority as a server's certificate
//! (RFC 5280, 4.2.1.9); here it is accepted if the operator trusts exactly this certificate, byte for byte, and its names and validity fit. That
//! the server has its key is shown by the handshake's signature, as always.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Certificates that are trusted.
#[derive(Debug, Clone)]
pub(crate) struct Anchors {
    roots: RootCertStore,
    /// Those in `roots`, whole: the store keeps only their names and keys.
    certificates: Vec<CertificateDer<'static>>,
}

impl Anchors {
    pub(crate) fn none() -> Self {
        Self { roots: RootCertStore::empty(), certificates: Vec::new() }
    }

    /// Trusts one more. An error if it is no certificate that webpki can use.
    pub(crate) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        self.roots.add(certificate.clone())?;
        self.certificates.push(certificate);
        Ok(())
    }

    /// Verifies by these; none if there are none, and so nobody to verify.
    pub(crate) fn verifier(self, provider: &Arc<CryptoProvider>) -> Option<Verifier> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots), provider.clone());
        // The other error is about revocation lists, of which there are none.
        let chain = builder.build().ok()?;
        Some(Verifier { chain, anchors: self.certificates })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    anchors: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_authority_as_server(&error) => {}
            verdict => return verdict,
        }
        // webpki looks at the validity before it looks for an authority, so that this one has passed; a test keeps watch over it.
        if !self.anchors.iter().any(|anchor| anchor.as_ref() == end_entity.as_ref()) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn is_authority_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

    /// As people make it: valid for two days, for 127.0.0.1.
    fn self_signed(directory: &Path, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let file = |kind: &str| directory.join(format!("{name}.{kind}"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(file("key"))
            .arg("-out")
            .arg(file("crt"))
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (CertificateDer::from_pem_file(file("crt")).unwrap(), PrivateKeyDer::from_pem_file(file("key")).unwrap())
    }

    fn two_self_signed(test: &str) -> [(CertificateDer<'static>, PrivateKeyDer<'static>); 2] {
        let directory = std::env::temp_dir().join(format!("carrack-anchor-{}-{test}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let made = ["own", "other"].map(|name| self_signed(&directory, name));
        fs::remove_dir_all(&directory).unwrap();
        made
    }

    fn trusting(certificate: &CertificateDer<'static>) -> Verifier {
        let mut anchors = Anchors::none();
        anchors.add(certificate.clone()).unwrap();
        anchors.verifier(&Arc::new(rustls::crypto::ring::default_provider())).unwrap()
    }

    #[test]
    fn a_self_signed_certificate_is_accepted_if_it_is_the_one_and_its_name_and_time_fit() {
        let [(own, _), (other, _)] = two_self_signed("verdicts");
        let verifier = trusting(&own);
        let verdict = |certificate: &CertificateDer<'_>, name: &str, days: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let then = Duration::from_secs(UnixTime::now().as_secs() + days * 24 * 3600);
            let verdict =
                verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(then)).map(drop);
            verdict.map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => "stranger",
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => "name",
                Error::InvalidCertificate(CertificateError::ExpiredContext { .. }) => "expired",
                other => panic!("{other}"),
            })
        };
        assert_eq!(verdict(&own, "127.0.0.1", 0), Ok(()));
        assert_eq!(verdict(&other, "127.0.0.1", 0), Err("stranger"));
        assert_eq!(verdict(&own, "127.0.0.2", 0), Err("name"));
        assert_eq!(verdict(&own, "registry", 0), Err("name"));
        assert_eq!(verdict(&own, "127.0.0.1", 3), Err("expired"));
    }

    /// A server that shows a certificate whose key it may not have.
    #[derive(Debug)]
    struct Shown(Arc<CertifiedKey>);

    impl ResolvesServerCert for Shown {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn a_trusted_certificate_without_its_key_is_worth_nothing() {
        let [(own, own_key), (_, other_key)] = two_self_signed("key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shake_hands = |key: PrivateKeyDer<'static>, version| {
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown = Shown(Arc::new(CertifiedKey::new(vec![own.clone()], key)));
            let server = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(shown));
            let client = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(trusting(&own)))
                .with_no_client_auth();
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
            let mut server = ServerConnection::new(Arc::new(server)).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut wire = Vec::new();
                client.write_tls(&mut wire).unwrap();
                server.read_tls(&mut &wire[..]).unwrap();
                server.process_new_packets()?;
                wire.clear();
                server.write_tls(&mut wire).unwrap();
                client.read_tls(&mut &wire[..]).unwrap();
                client.process_new_packets()?;
            }
            Ok::<_, Error>(())
        };
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            shake_hands(own_key.clone_key(), version).unwrap();
            let error = shake_hands(other_key.clone_key(), version).unwrap_err();
            assert_eq!(error, Error::InvalidCertificate(CertificateError::BadSignature), "{version:?}");
        }
    }
}
