//! Bearer tokens: what to ask the token server, and what it answers (distribution specification's "Token Authentication").
//!
//! Pure; [`crate::repository`] sends the request.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::endpoint::{is_loopback, shown};
use crate::transport::Outgoing;
use crate::{Credentials, Secret};

/// How the token server knows us.
const CLIENT_ID: &str = "carrack";
/// A token without `expires_in` lives so long (the specification's rule).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// No token is used for longer, whatever the server says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The token server cannot be used, or its answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The realm is not a URL with a host.
    #[error("its token server's address is not a URL")]
    RealmNotUrl,
    /// Credentials and tokens do not travel in the clear.
    #[error("its token server {realm} is not https")]
    RealmNotHttps {
        /// The realm, without its query.
        realm: String,
    },
    /// The request does not fit into a header.
    #[error("the credentials do not fit into a header")]
    Unsendable,
    /// The answer is not JSON with a token.
    #[error("its token server's answer has no token")]
    NoToken,
}

/// Checks where a challenge sends us: https, or plain HTTP on loopback if the registry itself is that.
pub(crate) fn check_realm(realm: &str, registry: &Url) -> Result<Url, TokenError> {
    let url = Url::parse(realm).map_err(|_| TokenError::RealmNotUrl)?;
    let host = url.host().ok_or(TokenError::RealmNotUrl)?;
    let in_the_clear = registry.scheme() == "http" && url.scheme() == "http" && is_loopback(&host);
    if url.scheme() == "https" || in_the_clear {
        Ok(url)
    } else {
        Err(TokenError::RealmNotHttps { realm: shown(&url) })
    }
}

/// What a token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    pub(crate) service: Option<&'a str>,
    /// Separated by spaces.
    pub(crate) scope: &'a str,
}

/// The request for a token: POST for identity tokens, which must not stand in a URL, GET for all else.
pub(crate) fn token_request(
    realm: &Url,
    wanted: &Wanted<'_>,
    credentials: &Credentials,
) -> Result<Outgoing, TokenError> {
    if let Credentials::IdentityToken(token) = credentials {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        if let Some(service) = wanted.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", wanted.scope).append_pair("refresh_token", token.expose());
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
        return Ok(Outgoing { method: Method::POST, url: realm.clone(), headers, body: Bytes::from(form.finish()) });
    }
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = wanted.service {
            query.append_pair("service", service);
        }
        for scope in wanted.scope.split(' ').filter(|scope| !scope.is_empty()) {
            query.append_pair("scope", scope);
        }
        if let Credentials::Basic { user, .. } = credentials {
            query.append_pair("account", user).append_pair("client_id", CLIENT_ID);
        }
    }
    let mut headers = HeaderMap::new();
    if let Credentials::Basic { user, password } = credentials {
        headers.insert(AUTHORIZATION, basic(user, password).ok_or(TokenError::Unsendable)?);
    }
    Ok(Outgoing { method: Method::GET, url, headers, body: Bytes::new() })
}

/// The value of a Basic `Authorization` header, marked as secret.
pub(crate) fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    secret_header(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// The value of a Bearer `Authorization` header, marked as secret.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    secret_header(&format!("Bearer {}", token.expose()))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A token and how long it may be used, counted from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) token: Secret,
    pub(crate) life: Duration,
}

/// Reads the token server's answer.
pub(crate) fn parse_token(body: &[u8]) -> Result<Token, TokenError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<Secret>,
        access_token: Option<Secret>,
        expires_in: Option<f64>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| TokenError::NoToken)?;
    let there = |secret: &Secret| !secret.expose().is_empty();
    let token = answer.token.filter(there).or(answer.access_token.filter(there)).ok_or(TokenError::NoToken)?;
    let told = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // A tenth is kept back, so that a token does not run out on its way.
    let life = told.filter(|life| !life.is_zero()).unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE).mul_f64(0.9);
    Ok(Token { token, life })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_realm_in_the_clear_is_refused_unless_all_is_loopback() {
        for (realm, registry, want) in [
            ("https://auth.example/token", "https://r.example/", Ok("https://auth.example/token")),
            ("https://auth.example/token", "http://localhost:5000/", Ok("https://auth.example/token")),
            ("http://127.0.0.1:5001/token?a=b", "http://localhost:5000/", Ok("http://127.0.0.1:5001/token?a=b")),
            ("http://auth.example/token", "http://localhost:5000/", Err("http://auth.example/token")),
            ("http://auth.example/token?x=secret", "https://r.example/", Err("http://auth.example/token")),
            ("http://localhost:1/token", "https://r.example/", Err("http://localhost:1/token")),
        ] {
            let want = want.map(str::to_owned).map_err(|realm| TokenError::RealmNotHttps { realm: realm.to_owned() });
            assert_eq!(check_realm(realm, &url(registry)).map(|url| url.to_string()), want, "{realm}");
        }
        assert_eq!(check_realm("token", &url("https://r.example/")), Err(TokenError::RealmNotUrl));
    }

    #[test]
    fn identity_tokens_go_into_a_form_and_passwords_into_a_header() {
        let wanted = Wanted { service: Some("r.example"), scope: "repository:a/b:pull repository:c:pull" };
        let realm = url("https://auth.example/token?x=1");
        let anonymous = token_request(&realm, &wanted, &Credentials::Anonymous).unwrap();
        assert_eq!(
            anonymous.url.as_str(),
            "https://auth.example/token?x=1&service=r.example&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
        assert!(anonymous.headers.is_empty());

        let basic = Credentials::Basic { user: "u".into(), password: Secret::new("p") };
        let with_password = token_request(&realm, &wanted, &basic).unwrap();
        assert_eq!(with_password.headers[AUTHORIZATION], "Basic dTpw");
        assert!(with_password.headers[AUTHORIZATION].is_sensitive());
        assert!(with_password.url.as_str().ends_with("&account=u&client_id=carrack"));

        let identity = token_request(&realm, &wanted, &Credentials::IdentityToken(Secret::new("r&t"))).unwrap();
        assert_eq!((identity.method, identity.url), (Method::POST, realm));
        assert_eq!(
            identity.body,
            "grant_type=refresh_token&client_id=carrack&service=r.example&scope=repository%3Aa%2Fb%3Apull+repository%3Ac%3Apull&refresh_token=r%26t"
        );
    }

    #[test]
    fn a_tokens_life_is_bounded_and_a_minute_if_nobody_says() {
        for (body, want) in [
            (r#"{"token":"t","expires_in":300}"#, Ok(("t", 270))),
            (r#"{"access_token":"a"}"#, Ok(("a", 54))),
            (r#"{"token":"","access_token":"a","expires_in":null}"#, Ok(("a", 54))),
            (r#"{"token":"t","expires_in":-5}"#, Ok(("t", 54))),
            (r#"{"token":"t","expires_in":1e300}"#, Ok(("t", 54))),
            (r#"{"token":"t","expires_in":1e9}"#, Ok(("t", 77760))),
            (r#"{}"#, Err(TokenError::NoToken)),
            ("<html>", Err(TokenError::NoToken)),
        ] {
            let want = want.map(|(token, life)| Token { token: Secret::new(token), life: Duration::from_secs(life) });
            assert_eq!(parse_token(body.as_bytes()), want, "{body}");
        }
    }
}
