//! What the engine offers, and whether it is ready: `Status`.

use carrack_cri_proto::v1;

use crate::request::HostFacts;

/// One condition: ready, or not and why.
pub(crate) fn condition(name: &str, found: Result<(), String>) -> v1::RuntimeCondition {
    let status = found.is_ok();
    let reason = if status { "Ready" } else { "NotReady" };
    let message = found.err().unwrap_or_default();
    v1::RuntimeCondition { r#type: name.to_owned(), status, reason: reason.to_owned(), message }
}

/// The handlers: only the default one, which has no name.
pub(crate) fn runtime_handlers(host: &HostFacts) -> Vec<v1::RuntimeHandler> {
    let features = v1::RuntimeHandlerFeatures {
        recursive_read_only_mounts: host.recursive_readonly,
        // Refused by name so far, see `request::namespace`.
        user_namespaces: false,
    };
    vec![v1::RuntimeHandler { name: String::new(), features: Some(features) }]
}

/// What holds whatever the handler.
pub(crate) fn runtime_features() -> v1::RuntimeFeatures {
    v1::RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_says_why_it_does_not_hold() {
        let ready = condition("RuntimeReady", Ok(()));
        assert_eq!((ready.status, ready.reason.as_str(), ready.message.as_str()), (true, "Ready", ""));
        let not = condition("NetworkReady", Err("nftables is missing".into()));
        assert_eq!((not.status, not.reason.as_str(), not.message.as_str()), (false, "NotReady", "nftables is missing"));
    }

    #[test]
    fn the_default_handler_has_the_hosts_features() {
        for recursive_readonly in [false, true] {
            let handlers = runtime_handlers(&HostFacts { apparmor: false, selinux: false, recursive_readonly });
            let features =
                v1::RuntimeHandlerFeatures { recursive_read_only_mounts: recursive_readonly, user_namespaces: false };
            assert_eq!(handlers, vec![v1::RuntimeHandler { name: String::new(), features: Some(features) }]);
        }
    }
}
