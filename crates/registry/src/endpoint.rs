//! Where a registry's API is, and over which scheme it may be spoken to.
//!
//! Pure. Plain HTTP is for loopback only; there, TLS is tried first, as Docker does.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Docker Hub's name in references.
const DOCKER_HUB: &str = "docker.io";
/// Its API's host.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// Whether a host names this machine itself: `localhost`, names below it, 127.0.0.0/8, ::1.
pub(crate) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => {
            *address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|v4: Ipv4Addr| v4.is_loopback())
        }
    }
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TLS.
    Https,
    /// In the clear; only ever to loopback.
    Http,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// A registry as a reference names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    name: String,
    authority: String,
}

/// The host part of a reference is none that a URL could have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the host of a registry")]
pub struct EndpointError {
    /// What was given.
    pub name: String,
}

impl Endpoint {
    /// The registry called `name` in references, like `docker.io` or `localhost:5000`.
    pub fn new(name: &str) -> Result<Self, EndpointError> {
        let authority = if name == DOCKER_HUB { DOCKER_HUB_API } else { name };
        let endpoint = Self { name: name.to_owned(), authority: authority.to_owned() };
        // The URL parser is what decides later who is connected to, so it has to agree with the reference about where the host ends.
        let parsed = Url::parse(&format!("https://{authority}/")).ok();
        let is_plain = |url: &Url| {
            let has_more = url.query().is_some() || url.fragment().is_some() || !url.username().is_empty();
            url.has_host() && url.path() == "/" && !has_more
        };
        let plain = parsed.filter(is_plain);
        plain.map(|_| endpoint).ok_or_else(|| EndpointError { name: name.to_owned() })
    }

    /// The name in references.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schemes to try, in order.
    pub fn schemes(&self) -> &'static [Scheme] {
        let is_local = self.url(Scheme::Https, "").host().is_some_and(|host| is_loopback(&host));
        if is_local { &[Scheme::Https, Scheme::Http] } else { &[Scheme::Https] }
    }

    /// The URL of `path`, which starts below `/v2/`.
    pub fn url(&self, scheme: Scheme, path: &str) -> Url {
        Url::parse(&format!("{}://{}/v2/{path}", scheme.as_str(), self.authority))
            .expect("new() has parsed this authority")
    }

    /// The names under which Docker's `config.json` may keep this registry's credentials, the usual one first.
    pub fn credential_keys(&self) -> Vec<String> {
        if self.name == DOCKER_HUB {
            return ["https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB, DOCKER_HUB_API]
                .map(str::to_owned)
                .into();
        }
        vec![self.name.clone()]
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A URL as errors and logs may show it: without user, password, query and fragment, which may hold secrets (signed URLs do).
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let text = format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Where a redirect leads is not where we go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// No URL, or one without a host.
    #[error("its target is not a URL")]
    NotUrl,
    /// From TLS to plain HTTP.
    #[error("it leads from https to plain http at {target}")]
    Downgrade {
        /// The target, without its query.
        target: String,
    },
    /// Plain HTTP to another machine.
    #[error("it leads to plain http at {target}, which is for loopback only")]
    PlainHttp {
        /// The target, without its query.
        target: String,
    },
    /// `file:`, `ftp:` and the like.
    #[error("it leads to a {scheme} URL")]
    Scheme {
        /// The target's scheme.
        scheme: String,
    },
    /// A loop, or near one.
    #[error("more than {limit} redirects in a row")]
    TooMany {
        /// How many are followed.
        limit: usize,
    },
}

/// Decides where a redirect from `from` with this `Location` leads.
pub(crate) fn redirect_target(from: &Url, location: &str) -> Result<Url, RedirectError> {
    let target = from.join(location).map_err(|_| RedirectError::NotUrl)?;
    let host = target.host().ok_or(RedirectError::NotUrl)?;
    match target.scheme() {
        "https" => {}
        "http" if from.scheme() == "https" => return Err(RedirectError::Downgrade { target: shown(&target) }),
        "http" if !is_loopback(&host) => return Err(RedirectError::PlainHttp { target: shown(&target) }),
        "http" => {}
        other => return Err(RedirectError::Scheme { scheme: other.to_owned() }),
    }
    Ok(target)
}

/// Whether what is told to one URL may be told to the other: same scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only_and_comes_second() {
        for (name, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("docker.io", false),
            ("registry.example:5000", false),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
            ("127.0.0.1.example:80", false),
        ] {
            let want: &[Scheme] = if plain { &[Scheme::Https, Scheme::Http] } else { &[Scheme::Https] };
            assert_eq!(Endpoint::new(name).unwrap().schemes(), want, "{name}");
        }
    }

    #[test]
    fn docker_hubs_api_and_credentials_have_other_names() {
        let hub = Endpoint::new("docker.io").unwrap();
        assert_eq!(
            hub.url(Scheme::Https, "library/a/blobs/x").as_str(),
            "https://registry-1.docker.io/v2/library/a/blobs/x"
        );
        assert_eq!(hub.credential_keys()[0], "https://index.docker.io/v1/");
        assert_eq!(Endpoint::new("quay.io").unwrap().credential_keys(), ["quay.io"]);
    }

    #[test]
    fn a_host_that_a_url_reads_otherwise_is_refused() {
        for bad in ["", "a/b", "user@host", "a?b", "a#b", "a:b"] {
            assert_eq!(Endpoint::new(bad), Err(EndpointError { name: bad.to_owned() }), "{bad}");
        }
    }

    #[test]
    fn redirects_never_leave_tls_nor_reach_plain_http_elsewhere() {
        let from = |text: &str| Url::parse(text).unwrap();
        let target = |text: &str| text.to_owned();
        for (base, location, want) in [
            ("https://a.example/v2/x", "/v2/y?z=1", Ok("https://a.example/v2/y?z=1")),
            ("https://a.example/v2/x", "https://cdn.example/y", Ok("https://cdn.example/y")),
            (
                "https://a.example/v2/x",
                "http://a.example/y",
                Err(RedirectError::Downgrade { target: target("http://a.example/y") }),
            ),
            ("http://localhost:1/x", "http://127.0.0.1:2/y", Ok("http://127.0.0.1:2/y")),
            (
                "http://localhost:1/x",
                "http://10.0.0.1/y?s=secret",
                Err(RedirectError::PlainHttp { target: target("http://10.0.0.1/y") }),
            ),
            ("http://localhost:1/x", "file:///etc/passwd", Err(RedirectError::NotUrl)),
            ("http://localhost:1/x", "ftp://h/x", Err(RedirectError::Scheme { scheme: "ftp".into() })),
            ("https://a.example/", "https://", Err(RedirectError::NotUrl)),
        ] {
            let got = redirect_target(&from(base), location).map(|url| url.to_string());
            assert_eq!(got, want.map(str::to_owned), "{base} {location}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_holds_no_secret() {
        let url = Url::parse("https://user:password@h.example:1/p?X-Amz-Signature=abc#f").unwrap();
        assert_eq!(shown(&url), "https://h.example:1/p");
    }
}
