//! What can go wrong between us and a registry.

use std::fmt;

use carrack_words::{Digest, Kind};

use crate::credentials::CredentialError;
use crate::endpoint::{EndpointError, RedirectError};
use crate::token::TokenError;
use crate::transport::TransportError;

/// Text from a registry, made fit for an error message: one line, no control characters, at most 300 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// Takes what the registry said.
    pub(crate) fn new(text: &str) -> Self {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        Self(line.trim().to_owned())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "it gives no reason" } else { &self.0 })
    }
}

/// A request to a registry failed. Texts name the object; no text holds a password, a token or a query.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry's name cannot be used.
    #[error("talk to registry {registry}")]
    Endpoint {
        /// The name in the reference.
        registry: String,
        /// Why.
        source: EndpointError,
    },
    /// There is no connection to it, again and again.
    #[error("registry {registry} cannot be reached")]
    Unreachable {
        /// The registry.
        registry: String,
        /// The last try's error.
        source: Box<TransportError>,
    },
    /// It was reached, and its answer broke off or never came, again and again.
    #[error("registry {registry} does not answer to the end")]
    Interrupted {
        /// The registry.
        registry: String,
        /// The last try's error.
        source: Box<TransportError>,
    },
    /// The credentials cannot be obtained.
    #[error("log in to registry {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        source: CredentialError,
    },
    /// It wants an authentication that we do not know.
    #[error("registry {registry} asks for an authentication that is neither Basic nor Bearer")]
    UnknownChallenge {
        /// The registry.
        registry: String,
    },
    /// Its token server cannot be used.
    #[error("log in to registry {registry}")]
    Token {
        /// The registry.
        registry: String,
        /// Why.
        source: TokenError,
    },
    /// Its token server cannot be reached.
    #[error("the token server of registry {registry} cannot be reached")]
    TokenUnreachable {
        /// The registry.
        registry: String,
        /// Why.
        source: Box<TransportError>,
    },
    /// Its token server refuses us.
    #[error("the token server of registry {registry} answers {status}: {said}")]
    TokenRefused {
        /// The registry.
        registry: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        said: Said,
    },
    /// The user's name or password is wrong.
    #[error("{by} refuses the user name or password: {said}")]
    WrongPassword {
        /// Who says so: the registry, or its token server.
        by: String,
        /// Its words.
        said: Said,
    },
    /// Not without a login, or not with this one. Registries say so for repositories that do not exist, too.
    #[error("registry {registry} refuses access to {what}: {said}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Its words.
        said: Said,
    },
    /// Not there.
    #[error("registry {registry} has no {what}")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Its words.
        said: Said,
    },
    /// Too many requests.
    #[error("registry {registry} limits the rate of requests: {said}")]
    Throttled {
        /// The registry.
        registry: String,
        /// Its words.
        said: Said,
    },
    /// Another status.
    #[error("registry {registry} answers {status} to the request for {what}: {said}")]
    Status {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        said: Said,
    },
    /// A redirect that is not followed.
    #[error("registry {registry} redirects the request for {what}, and the redirect is refused")]
    Redirect {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Why.
        source: RedirectError,
    },
    /// A manifest beyond the bound.
    #[error("{what} of registry {registry} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The bound.
        limit_bytes: usize,
    },
    /// The bytes are not those of the digest.
    #[error("{what} of registry {registry} has digest {got}, and {want} was promised")]
    WrongDigest {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the manifest, the reference or the header says.
        want: Digest,
        /// What came.
        got: Digest,
    },
    /// The size is not what the manifest says.
    #[error("{what} of registry {registry} has {got} bytes, and the manifest says {want_bytes}")]
    WrongSize {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the manifest says.
        want_bytes: u64,
        /// What came; of a body that is too long only the beginning was read.
        got: SizeSeen,
    },
    /// The body ended too early, again and again.
    #[error("{what} of registry {registry} breaks off after {got_bytes} of {want_bytes} bytes")]
    Truncated {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the manifest says.
        want_bytes: u64,
        /// What came.
        got_bytes: u64,
    },
    /// A header breaks the protocol.
    #[error("registry {registry} answers the request for {what} with an unusable {header}: {said}")]
    Header {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The header's name.
        header: &'static str,
        /// Its value.
        said: Said,
    },
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeSeen {
    /// So long, as its header announces.
    Exactly(u64),
    /// Longer than it should be.
    More,
}

impl fmt::Display for SizeSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => bytes.fmt(f),
            Self::More => f.write_str("more"),
        }
    }
}

impl RegistryError {
    /// No whole answer came to a request.
    pub(crate) fn no_answer(registry: &impl fmt::Display, source: TransportError) -> Self {
        let (registry, is_connected) = (registry.to_string(), source.is_connected());
        let source = Box::new(source);
        match is_connected {
            true => Self::Interrupted { registry, source },
            false => Self::Unreachable { registry, source },
        }
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Endpoint { .. } => Kind::Invalid,
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::TokenUnreachable { .. } => Kind::Unavailable,
            Self::Credentials { source: CredentialError::MalformedAuth { .. }, .. } => Kind::Invalid,
            Self::Credentials { .. } => Kind::Precondition,
            Self::UnknownChallenge { .. } => Kind::Unsupported,
            Self::Token { .. }
            | Self::TokenRefused { status: 401 | 403, .. }
            | Self::WrongPassword { .. }
            | Self::Unauthorized { .. } => Kind::Denied,
            Self::TokenRefused { .. } => Kind::Unavailable,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Throttled { .. } => Kind::Exhausted,
            Self::Status { status: 500.., .. } => Kind::Unavailable,
            Self::Status { .. } | Self::Header { .. } => Kind::Internal,
            Self::Redirect { .. } => Kind::Denied,
            Self::TooLarge { .. } => Kind::Invalid,
            Self::WrongDigest { .. } | Self::WrongSize { .. } | Self::Truncated { .. } => Kind::DataLoss,
        }
    }
}

/// The message in a registry's error body (`{"errors":[{"code":…,"message":…}]}`), or the body's beginning if it is text, or nothing.
pub(crate) fn said_by(body: &[u8]) -> Said {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        // Token servers say it this way.
        #[serde(default)]
        details: Option<String>,
        #[serde(default)]
        error_description: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(errors) = serde_json::from_slice::<Errors>(body) {
        let texts = errors.errors.iter().map(|one| match (one.code.as_str(), one.message.as_str()) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{message} ({code})"),
        });
        let all: Vec<String> = texts.chain(errors.details).chain(errors.error_description).collect();
        return Said::new(&all.join(", "));
    }
    match std::str::from_utf8(body) {
        Ok(text) if !text.trim_start().starts_with(['<', '{']) => Said::new(text),
        _ => Said::new(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_become_one_harmless_line() {
        for (body, want) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access"},{"code":"X"}]}"#,
                "requested access (DENIED), X",
            ),
            (r#"{"errors":[]}"#, "it gives no reason"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("<html>Bad gateway</html>", "it gives no reason"),
            ("too many\r\n\u{1b}[31mrequests", "too many   [31mrequests"),
            ("", "it gives no reason"),
        ] {
            assert_eq!(said_by(body.as_bytes()).to_string(), want, "{body}");
        }
        assert_eq!(said_by("x".repeat(1000).as_bytes()).to_string().len(), 300);
    }
}
