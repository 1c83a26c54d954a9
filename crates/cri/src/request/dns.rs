//! DNS settings of a pod sandbox, which become the lines of its resolv.conf.

use std::net::IpAddr;

use carrack_cri_proto::v1;
use carrack_engine::request::DnsConfig;

use super::{RequestError, invalid};

/// Settings that say nothing mean the host's, as an absent message does.
///
/// No entry may hold white space: it would become a word or a line of its own.
pub(super) fn dns(config: Option<&v1::DnsConfig>, field: &str) -> Result<Option<DnsConfig>, RequestError> {
    let Some(v1::DnsConfig { servers, searches, options }) = config else { return Ok(None) };
    if servers.is_empty() && searches.is_empty() && options.is_empty() {
        return Ok(None);
    }
    for (index, server) in servers.iter().enumerate() {
        // A link-local server carries its interface: fe80::1%eth0.
        let address = server.split_once('%').map_or(server.as_str(), |(address, _)| address);
        if address.parse::<IpAddr>().is_err() {
            return Err(invalid(format!("{field}.servers[{index}]"), format!("{server:?} is not an IP address")));
        }
    }
    for (name, entries) in [("servers", servers), ("searches", searches), ("options", options)] {
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_empty() || entry.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(invalid(format!("{field}.{name}[{index}]"), format!("{entry:?} is not one word")));
            }
        }
    }
    Ok(Some(DnsConfig { servers: servers.clone(), searches: searches.clone(), options: options.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &[&str], searches: &[&str], options: &[&str]) -> v1::DnsConfig {
        let owned = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        v1::DnsConfig { servers: owned(servers), searches: owned(searches), options: owned(options) }
    }

    #[test]
    fn settings_are_taken_as_given_and_empty_ones_mean_the_hosts() {
        assert_eq!(dns(None, "d"), Ok(None));
        assert_eq!(dns(Some(&config(&[], &[], &[])), "d"), Ok(None));
        let given = config(&["10.96.0.10", "fe80::1%eth0"], &["a.svc", "."], &["ndots:5"]);
        let wanted = DnsConfig {
            servers: given.servers.clone(),
            searches: given.searches.clone(),
            options: given.options.clone(),
        };
        assert_eq!(dns(Some(&given), "d"), Ok(Some(wanted)));
    }

    #[test]
    fn nothing_smuggles_a_line_into_resolv_conf() {
        for (wrong, field) in [
            (config(&["resolver"], &[], &[]), "d.servers[0]"),
            (config(&["10.0.0.1", "fe80::1%e\noptions debug"], &[], &[]), "d.servers[1]"),
            (config(&[], &["a\nnameserver 6.6.6.6"], &[]), "d.searches[0]"),
            (config(&[], &["a b"], &[]), "d.searches[0]"),
            (config(&[], &[], &["ndots:5", ""]), "d.options[1]"),
        ] {
            let error = dns(Some(&wrong), "d").expect_err("refused");
            assert!(matches!(&error, RequestError::Invalid { field: at, .. } if at == field), "{error}");
        }
    }
}
