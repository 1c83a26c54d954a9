//! Which proxy a request goes through (the environment variables that curl, Go and so all container tools read).
//!
//! `HTTPS_PROXY` and `NO_PROXY` count. `HTTP_PROXY` cannot: it is for plain HTTP, which we speak to loopback only, and loopback never goes
//! through a proxy. Pure; the variables come in as arguments.

use std::net::IpAddr;
use url::{Host, Url};

use crate::Secret;

/// A proxy variable cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It is not a URL with a host.
    #[error("{variable} is not the URL of a proxy")]
    NotUrl {
        /// The variable's name. Its value may hold a password and is not shown.
        variable: String,
    },
    /// A kind of proxy that we do not speak to.
    #[error("{variable} names a {scheme} proxy, which is not supported: only http and https are")]
    Scheme {
        /// The variable's name.
        variable: String,
        /// The URL's scheme.
        scheme: String,
    },
}

/// One HTTP proxy, used by CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Host to connect to.
    pub host: Host<String>,
    /// Port to connect to; 80 or 443 if the URL has none.
    pub port: u16,
    /// Whether the proxy itself is spoken to through TLS.
    pub tls: bool,
    /// User and password, if the URL has them.
    pub credentials: Option<(String, Secret)>,
}

/// The rules of `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    exempt: Vec<Exemption>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exemption {
    Everything,
    /// An address range.
    Range {
        network: IpAddr,
        bits: u8,
    },
    /// A name and all names below it; with a leading dot only those below.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the rules with `variable`, which looks an environment variable up. The lower-case spelling wins where both are set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let either = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()].into_iter().find_map(|spelling| {
                variable(&spelling).filter(|value| !value.is_empty()).map(|value| (spelling, value))
            })
        };
        let exempt = either("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        Ok(Self {
            https: either("HTTPS_PROXY").map(|(variable, value)| parse_proxy(&variable, &value)).transpose()?,
            exempt: exempt.split([',', ' ']).filter(|item| !item.is_empty()).map(parse_exemption).collect(),
        })
    }

    /// The proxy for a request to `url`; none means straight.
    pub fn for_url(&self, url: &Url) -> Option<&Proxy> {
        let proxy = self.https.as_ref().filter(|_| url.scheme() == "https")?;
        let host = url.host()?;
        let port = url.port_or_known_default();
        let exempt = crate::endpoint::is_loopback(&host) || self.exempt.iter().any(|rule| rule.covers(&host, port));
        (!exempt).then_some(proxy)
    }
}

fn parse_proxy(variable: &str, value: &str) -> Result<Proxy, ProxyError> {
    let not_url = || ProxyError::NotUrl { variable: variable.to_owned() };
    // `proxy:3128` is allowed and means http.
    let url = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
    let url = url.map_err(|_| not_url())?;
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        other => return Err(ProxyError::Scheme { variable: variable.to_owned(), scheme: other.to_owned() }),
    };
    let decode = |text: &str| {
        // The query parser is the `url` crate's percent decoder; a plus must stay one.
        let text = format!("v={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(text.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let credentials = (!url.username().is_empty())
        .then(|| (decode(url.username()), Secret::new(decode(url.password().unwrap_or_default()))));
    Ok(Proxy {
        host: url.host().ok_or_else(not_url)?.to_owned(),
        port: url.port_or_known_default().ok_or_else(not_url)?,
        tls,
        credentials,
    })
}

fn parse_exemption(item: &str) -> Exemption {
    if item == "*" {
        return Exemption::Everything;
    }
    if let Some((network, bits)) = item.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse(), bits.parse())
    {
        return Exemption::Range { network, bits };
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if let Ok(address) = bare(item) {
        return Exemption::Address { address, port: None };
    }
    let (name, port) = match item.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (item, None),
    };
    if let Ok(address) = bare(name) {
        return Exemption::Address { address, port };
    }
    let name = name.to_ascii_lowercase();
    let below_only = name.starts_with('.') || name.starts_with("*.");
    Exemption::Domain { name: name.trim_start_matches(['*', '.']).to_owned(), itself: !below_only, port }
}

impl Exemption {
    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        let port_fits = |want: &Option<u16>| want.is_none() || *want == port;
        match self {
            Self::Everything => true,
            Self::Range { network, bits } => address.is_some_and(|address| in_range(address, *network, *bits)),
            Self::Address { address: want, port } => address == Some(*want) && port_fits(port),
            Self::Domain { name, itself, port } => {
                let Host::Domain(host) = host else { return false };
                let host = host.trim_end_matches('.');
                let is_below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                port_fits(port) && (is_below || (*itself && host == name))
            }
        }
    }
}

fn in_range(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let host_bits = u32::from(width - bits.min(width));
    (a ^ b).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        Proxies::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn exemptions_follow_the_fields_rules() {
        let rules = proxies(&[
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("NO_PROXY", "one.example,.two.example, *.three.example 10.0.0.0/8,192.0.2.7,four.example:8443,fd00::/8"),
        ])
        .unwrap();
        for (url, goes_through) in [
            ("https://registry.example/", true),
            ("http://registry.example/", false),
            ("https://one.example/", false),
            ("https://sub.one.example/", false),
            ("https://notone.example/", true),
            ("https://two.example/", true),
            ("https://sub.two.example/", false),
            ("https://three.example/", true),
            ("https://sub.three.example/", false),
            ("https://10.255.0.1/", false),
            ("https://11.0.0.1/", true),
            ("https://192.0.2.7:5000/", false),
            ("https://192.0.2.8/", true),
            ("https://four.example:8443/", false),
            ("https://four.example/", true),
            ("https://[fd12::1]/", false),
            ("https://[fe80::1]/", true),
            ("https://localhost:5000/", false),
            ("https://127.1.2.3/", false),
            ("https://[::1]/", false),
        ] {
            assert_eq!(rules.for_url(&Url::parse(url).unwrap()).is_some(), goes_through, "{url}");
        }
        let none = proxies(&[("HTTPS_PROXY", "proxy"), ("no_proxy", "*")]).unwrap();
        assert_eq!(none.for_url(&Url::parse("https://a.example/").unwrap()), None);
    }

    #[test]
    fn a_proxys_url_is_taken_apart_and_its_password_never_shown() {
        let rules =
            proxies(&[("https_proxy", "https://me:p%40ss+@proxy.example"), ("HTTPS_PROXY", "http://other:1")]).unwrap();
        let proxy = rules.for_url(&Url::parse("https://a.example/").unwrap()).unwrap();
        let credentials = Some(("me".to_owned(), Secret::new("p@ss+")));
        assert_eq!(*proxy, Proxy { host: Host::Domain("proxy.example".into()), port: 443, tls: true, credentials });
        assert!(!format!("{rules:?}").contains("p@ss"));
    }

    #[test]
    fn an_unusable_proxy_is_named_by_its_variable() {
        for (value, want) in [
            ("socks5://p:1", "HTTPS_PROXY names a socks5 proxy, which is not supported: only http and https are"),
            ("http://", "HTTPS_PROXY is not the URL of a proxy"),
        ] {
            assert_eq!(proxies(&[("HTTPS_PROXY", value)]).unwrap_err().to_string(), want);
        }
    }
}
