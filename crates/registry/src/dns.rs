//! From names to addresses, without the C library's resolver (a static program must not load host modules).
//!
//! `/etc/hosts` first, then the name servers of `/etc/resolv.conf`. Both are read anew for every lookup: a pull makes a handful, and a daemon
//! that lives through a change of networks must not go on asking the old servers. `localhost` and names below it mean loopback, whatever
//! anybody says (RFC 6761, 6.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;
use url::Host;

/// A name has no address for us.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The resolver could not be set up.
    #[error("look up {host}: use the name servers of /etc/resolv.conf")]
    Configuration {
        /// The name.
        host: String,
        /// Why.
        source: NetError,
    },
    /// The name servers know no such name.
    #[error("there is no host called {host}")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// The name servers answer, but with an error.
    #[error("the name servers of /etc/resolv.conf fail to look up {host}: {answer}")]
    Failed {
        /// The name.
        host: String,
        /// Their answer, in the words of RFC 1035.
        answer: String,
    },
    /// No name server answers.
    #[error("look up {host}: no name server of /etc/resolv.conf answers")]
    Silence {
        /// The name.
        host: String,
    },
    /// The resolver fails in another way.
    #[error("look up {host}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        source: NetError,
    },
    /// The name exists without an address.
    #[error("{host} has no address")]
    NoAddress {
        /// The name.
        host: String,
    },
}

/// The addresses of `host`, in the order in which to try them: the families take turns.
pub(crate) async fn addresses(host: &Host<String>) -> Result<Vec<IpAddr>, DnsError> {
    match host {
        Host::Ipv4(address) => Ok(vec![IpAddr::V4(*address)]),
        Host::Ipv6(address) => Ok(vec![IpAddr::V6(*address)]),
        Host::Domain(name) if crate::endpoint::is_loopback(&Host::Domain(name.as_str())) => {
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
        }
        Host::Domain(name) => ask(name).await,
    }
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, DnsError> {
    let (mut builder, unconfigured) = match TokioResolver::builder_tokio() {
        Ok(builder) => (builder, None),
        // Without name servers there is still /etc/hosts.
        Err(source) => {
            let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            (TokioResolver::builder_with_config(none, TokioRuntimeProvider::default()), Some(source))
        }
    };
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.options_mut().use_hosts_file = ResolveHosts::Always;
    let host = name.to_owned();
    let resolver = builder.build().map_err(|source| DnsError::Configuration { host: host.clone(), source })?;
    let found = match (resolver.lookup_ip(name).await, unconfigured) {
        (Ok(found), _) => found,
        (Err(_), Some(source)) => return Err(DnsError::Configuration { host, source }),
        (Err(source), None) => return Err(failure(host, source)),
    };
    let addresses = take_turns(found.iter());
    if addresses.is_empty() { Err(DnsError::NoAddress { host }) } else { Ok(addresses) }
}

/// What the resolver says of `host`, without its data structures, which it prints in full.
fn failure(host: String, source: NetError) -> DnsError {
    use hickory_resolver::net::DnsError as Answer;
    match source {
        NetError::Dns(Answer::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoSuchHost { host },
            ResponseCode::NoError => DnsError::NoAddress { host },
            code => DnsError::Failed { host, answer: code.to_string() },
        },
        NetError::Dns(Answer::ResponseCode(code)) => DnsError::Failed { host, answer: code.to_string() },
        NetError::Timeout | NetError::NoConnections => DnsError::Silence { host },
        source => DnsError::Lookup { host, source },
    }
}

/// Lets the families take turns, the first one's first (RFC 8305, section 4).
fn take_turns(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = addresses.collect();
    let Some(first) = all.first() else { return all };
    let (preferred, others): (Vec<IpAddr>, Vec<IpAddr>) =
        all.iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut ordered = Vec::with_capacity(all.len());
    while ordered.len() < all.len() {
        ordered.extend(preferred.next());
        ordered.extend(others.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(
            take_turns(parse(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]).into_iter()),
            parse(&["10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3"])
        );
        assert_eq!(take_turns(std::iter::empty()), Vec::<IpAddr>::new());
    }

    #[test]
    fn a_failed_lookup_is_told_in_plain_words() {
        use hickory_resolver::net::{DnsError as Answer, NoRecords};
        use hickory_resolver::proto::op::Query;
        let none = |code| NetError::Dns(Answer::NoRecordsFound(NoRecords::new(Query::default(), code)));
        for (source, want) in [
            (none(ResponseCode::NXDomain), "there is no host called a.example"),
            (none(ResponseCode::NoError), "a.example has no address"),
            (
                none(ResponseCode::ServFail),
                "the name servers of /etc/resolv.conf fail to look up a.example: Server Failure",
            ),
            (
                NetError::Dns(Answer::ResponseCode(ResponseCode::Refused)),
                "the name servers of /etc/resolv.conf fail to look up a.example: Query Refused",
            ),
            (NetError::Timeout, "look up a.example: no name server of /etc/resolv.conf answers"),
            (NetError::NoConnections, "look up a.example: no name server of /etc/resolv.conf answers"),
        ] {
            assert_eq!(failure("a.example".to_owned(), source).to_string(), want);
        }
    }

    #[tokio::test]
    async fn localhost_needs_no_name_server() {
        for name in ["localhost", "registry.localhost", "LOCALHOST."] {
            let found = addresses(&Host::Domain(name.to_owned())).await.unwrap();
            assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{name}: {found:?}");
        }
    }
}
