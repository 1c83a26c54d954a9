//! Who we are to a registry.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};

use crate::Secret;
use crate::docker_config::DockerConfigError;
use crate::endpoint::Endpoint;
use crate::helper::HelperError;

/// Docker's `config.json` is written with padding; people write it without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The user name that says: the password is an identity token (Docker's convention).
pub(crate) const TOKEN_USER: &str = "<token>";

/// What we can show a registry. They belong to the one registry that they were found for, and go to no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, to be exchanged at the token server.
    IdentityToken(Secret),
    /// A bearer token for the registry itself.
    RegistryToken(Secret),
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// The caller knows them.
    Explicit(Credentials),
    /// Docker's `config.json`, with its credential helpers. They are asked for only if the registry wants to see some.
    DockerConfig,
}

/// The fields of CRI's `AuthConfig` (and of Docker's `X-Registry-Auth`), as they come. Empty means absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// `user:password` in base64.
    pub auth: Secret,
    /// The registry that this is for; if it is another one than we talk to, nothing is used.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: Secret,
    /// Bearer token for the registry.
    pub registry_token: Secret,
}

/// Credentials cannot be used or obtained. No text in here holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// `auth` is not base64 of `user:password`.
    #[error("the credentials for {registry} are malformed: auth is not base64 of user:password")]
    MalformedAuth {
        /// The registry's name.
        registry: String,
    },
    /// Docker's `config.json` cannot be used.
    #[error("look up credentials for {registry}")]
    DockerConfig {
        /// The registry's name.
        registry: String,
        /// Why.
        source: DockerConfigError,
    },
    /// A credential helper failed.
    #[error("look up credentials for {registry}")]
    Helper {
        /// The registry's name.
        registry: String,
        /// Why.
        source: HelperError,
    },
}

impl Credentials {
    /// The credentials in `auth` for the registry called `registry` in references.
    ///
    /// The first that is there of: registry token, identity token, user and password, `auth`. All empty, or meant for another registry:
    /// anonymous.
    pub fn from_auth_config(auth: &AuthConfig, registry: &str) -> Result<Self, CredentialError> {
        let has = |secret: &Secret| !secret.expose().is_empty();
        if !auth.server_address.is_empty() && !is_meant_for(&auth.server_address, registry) {
            return Ok(Self::Anonymous);
        }
        if has(&auth.registry_token) {
            return Ok(Self::RegistryToken(auth.registry_token.clone()));
        }
        if has(&auth.identity_token) {
            return Ok(Self::IdentityToken(auth.identity_token.clone()));
        }
        if !auth.username.is_empty() {
            return Ok(Self::basic(auth.username.clone(), auth.password.clone()));
        }
        if has(&auth.auth) {
            let malformed = || CredentialError::MalformedAuth { registry: registry.to_owned() };
            return decode_auth(&auth.auth).ok_or_else(malformed);
        }
        Ok(Self::Anonymous)
    }

    /// User and password; the user `<token>` makes an identity token of the password.
    pub(crate) fn basic(user: String, password: Secret) -> Self {
        if user == TOKEN_USER { Self::IdentityToken(password) } else { Self::Basic { user, password } }
    }

    /// Tells credentials apart without keeping them: a token that was got with the one is not for the other.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let (kind, first, second) = match self {
            Self::Anonymous => (0u8, "", ""),
            Self::Basic { user, password } => (1, user.as_str(), password.expose()),
            Self::IdentityToken(token) => (2, token.expose(), ""),
            Self::RegistryToken(token) => (3, token.expose(), ""),
        };
        let mut hash = Sha256::new();
        hash.update([kind]);
        hash.update((first.len() as u64).to_le_bytes());
        hash.update(first);
        hash.update(second);
        hash.finalize().into()
    }
}

/// `user:password` in base64, as `config.json` and CRI have it. Docker pads with NULs.
pub(crate) fn decode_auth(auth: &Secret) -> Option<Credentials> {
    let decoded = BASE64.decode(auth.expose().trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0');
    (!user.is_empty()).then(|| Credentials::basic(user.to_owned(), Secret::new(password)))
}

/// Whether a key of `config.json` or a server address (`host`, `https://host`, `https://host/v1/`) names the registry. A key for a part of a
/// registry (`host/team`) does not.
pub(crate) fn is_meant_for(key: &str, registry: &str) -> bool {
    let Ok(endpoint) = Endpoint::new(registry) else { return false };
    let host = |text: &str| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        matches!(path.trim_end_matches('/'), "" | "v1" | "v2").then(|| host.to_ascii_lowercase())
    };
    let Some(given) = host(key) else { return false };
    endpoint.credential_keys().iter().any(|known| host(known).as_deref() == Some(&given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth_config() -> AuthConfig {
        let none = || Secret::new("");
        AuthConfig {
            username: String::new(),
            password: none(),
            auth: none(),
            server_address: String::new(),
            identity_token: none(),
            registry_token: none(),
        }
    }

    #[test]
    fn the_strongest_field_of_an_auth_config_wins() {
        let basic =
            |user: &str, password: &str| Credentials::Basic { user: user.into(), password: Secret::new(password) };
        let base = AuthConfig { auth: Secret::new("YTpi"), ..auth_config() };
        let with_user = AuthConfig { username: "u".into(), password: Secret::new("p"), ..base.clone() };
        let with_identity = AuthConfig { identity_token: Secret::new("i"), ..with_user.clone() };
        let with_registry = AuthConfig { registry_token: Secret::new("r"), ..with_identity.clone() };
        let for_other = AuthConfig { server_address: "other.example".into(), ..with_registry.clone() };
        let for_us = AuthConfig { server_address: "https://a.example/v1/".into(), ..base.clone() };
        let token_user = AuthConfig { username: TOKEN_USER.into(), password: Secret::new("t"), ..auth_config() };
        for (auth, want) in [
            (auth_config(), Credentials::Anonymous),
            (base, basic("a", "b")),
            (with_user, basic("u", "p")),
            (with_identity, Credentials::IdentityToken(Secret::new("i"))),
            (with_registry, Credentials::RegistryToken(Secret::new("r"))),
            (for_other, Credentials::Anonymous),
            (for_us, basic("a", "b")),
            (token_user, Credentials::IdentityToken(Secret::new("t"))),
        ] {
            assert_eq!(Credentials::from_auth_config(&auth, "a.example").unwrap(), want);
        }
    }

    #[test]
    fn malformed_auth_is_refused_without_being_shown() {
        for bad in ["%%%", "bm9jb2xvbg==", "OnBhc3M="] {
            let auth = AuthConfig { auth: Secret::new(bad), ..auth_config() };
            let error = Credentials::from_auth_config(&auth, "a.example").unwrap_err();
            assert_eq!(
                error.to_string(),
                "the credentials for a.example are malformed: auth is not base64 of user:password"
            );
        }
        // Docker's own files end in NULs now and then, and some are written without padding.
        let want = Credentials::Basic { user: "a".into(), password: Secret::new("b:c") };
        assert_eq!(decode_auth(&Secret::new("YTpiOmMAAA")), Some(want));
    }

    #[test]
    fn a_key_is_for_one_registry_and_never_for_a_part_of_it_or_another() {
        for (key, registry, want) in [
            ("a.example", "a.example", true),
            ("A.example", "a.example", true),
            ("https://a.example", "a.example", true),
            ("http://a.example/v2/", "a.example", true),
            ("a.example:5000", "a.example", false),
            ("a.example", "a.example:5000", false),
            ("a.example/team", "a.example", false),
            ("b.example/a.example", "a.example", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("registry-1.docker.io", "docker.io", true),
            ("hub.docker.com", "docker.io", false),
        ] {
            assert_eq!(is_meant_for(key, registry), want, "{key} for {registry}");
        }
    }

    #[test]
    fn different_credentials_have_different_fingerprints() {
        let basic =
            |user: &str, password: &str| Credentials::Basic { user: user.into(), password: Secret::new(password) };
        let all = [
            Credentials::Anonymous,
            basic("a", "bc"),
            basic("ab", "c"),
            Credentials::IdentityToken(Secret::new("abc")),
            Credentials::RegistryToken(Secret::new("abc")),
        ];
        let different: std::collections::HashSet<_> = all.iter().map(Credentials::fingerprint).collect();
        assert_eq!(different.len(), all.len());
    }
}
