//! Printing of messages which hold secrets (`debug_redact` in the interface).

use std::fmt;

use crate::v1::AuthConfig;

/// Shown in place of a secret; an empty one shows as empty, which helps and tells nothing.
fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "***" }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &redacted(&self.password))
            .field("auth", &redacted(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &redacted(&self.identity_token))
            .field("registry_token", &redacted(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{ImageSpec, PullImageRequest};

    #[test]
    fn a_printed_pull_request_shows_no_secret() {
        let request = PullImageRequest {
            image: Some(ImageSpec { image: "busybox".into(), ..Default::default() }),
            auth: Some(AuthConfig {
                username: "anna".into(),
                password: "hidden-1".into(),
                auth: "hidden-2".into(),
                server_address: "registry.example".into(),
                identity_token: "hidden-3".into(),
                registry_token: "hidden-4".into(),
            }),
            sandbox_config: None,
        };
        let text = format!("{request:?}");
        assert!(text.contains("anna") && text.contains("registry.example") && text.contains("busybox"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
    }
}
