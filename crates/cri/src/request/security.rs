//! What a container may do: capabilities, system calls, labels, hidden paths.

use std::path::PathBuf;

use carrack_cri_proto::v1;
use carrack_engine::request::{ApparmorRequest, CapabilityRequest, PodRequest, SeccompRequest, SecurityRequest};
use v1::security_profile::ProfileType;

use super::{HostFacts, RequestError, absolute_path, given, invalid, known, non_empty, unsupported};

/// The rights of a container.
///
/// An absent context is a caller that says nothing about security, and gets the engine's masked paths. With a context the lists
/// are taken as they are, so that an empty one means none: that is how the kubelet asks for an unmasked `/proc`.
pub(super) fn security(
    context: Option<&v1::LinuxContainerSecurityContext>,
    pod: &PodRequest,
    host: &HostFacts,
    field: &str,
) -> Result<SecurityRequest, RequestError> {
    let Some(context) = context else {
        return Ok(SecurityRequest { seccomp: SeccompRequest::Unconfined, ..Default::default() });
    };
    if context.privileged && !pod.privileged {
        return Err(invalid(format!("{field}.privileged"), "the pod sandbox is not privileged"));
    }
    no_selinux(context.selinux_options.as_ref(), host, &format!("{field}.selinux_options"))?;
    Ok(SecurityRequest {
        capabilities: capabilities(context.capabilities.as_ref(), &format!("{field}.capabilities"))?,
        privileged: context.privileged,
        seccomp: if context.privileged { SeccompRequest::Unconfined } else { seccomp(context, field)? },
        apparmor: apparmor(context, host, field)?,
        no_new_privileges: context.no_new_privs,
        masked_paths: Some(paths(&context.masked_paths, &format!("{field}.masked_paths"))?),
        readonly_paths: Some(paths(&context.readonly_paths, &format!("{field}.readonly_paths"))?),
        readonly_rootfs: context.readonly_rootfs,
    })
}

/// Where SELinux is off its labels mean nothing and every caller may send them; where it is on, a label that is asked for and
/// not set would be a false promise.
pub(super) fn no_selinux(
    options: Option<&v1::SeLinuxOption>,
    host: &HostFacts,
    field: &str,
) -> Result<(), RequestError> {
    match options {
        Some(options) if host.selinux && *options != v1::SeLinuxOption::default() => {
            Err(unsupported(field, "SELinux labels are not supported yet"))
        }
        _ => Ok(()),
    }
}

fn capabilities(capabilities: Option<&v1::Capability>, field: &str) -> Result<CapabilityRequest, RequestError> {
    let Some(capabilities) = capabilities else { return Ok(CapabilityRequest::default()) };
    let list = |names: &[String], name: &str| -> Result<Vec<String>, RequestError> {
        let all = names.iter().enumerate();
        all.map(|(index, text)| capability(text, &format!("{field}.{name}[{index}]"))).collect()
    };
    Ok(CapabilityRequest {
        add: list(&capabilities.add_capabilities, "add_capabilities")?,
        drop: list(&capabilities.drop_capabilities, "drop_capabilities")?,
        add_ambient: list(&capabilities.add_ambient_capabilities, "add_ambient_capabilities")?,
    })
}

/// `net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are one name in every runtime.
fn capability(text: &str, field: &str) -> Result<String, RequestError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
        return Err(invalid(field, format!("{text:?} is not a capability")));
    }
    Ok(name.to_owned())
}

/// A profile, from the message or from the text that it replaced.
enum Profile {
    RuntimeDefault,
    Unconfined,
    Localhost(String),
}

/// The message wins over the deprecated text; `None` if both are absent.
fn profile(
    message: Option<&v1::SecurityProfile>,
    message_field: String,
    deprecated: &str,
    deprecated_field: String,
) -> Result<Option<(Profile, String)>, RequestError> {
    if let Some(message) = message {
        let profile = match known(message.profile_type, &format!("{message_field}.profile_type"))? {
            ProfileType::RuntimeDefault => Profile::RuntimeDefault,
            ProfileType::Unconfined => Profile::Unconfined,
            // Callers older than the message carry the text's prefix over.
            ProfileType::Localhost => {
                let name = &message.localhost_ref;
                Profile::Localhost(name.strip_prefix("localhost/").unwrap_or(name).to_owned())
            }
        };
        return Ok(Some((profile, format!("{message_field}.localhost_ref"))));
    }
    let Some(text) = given(deprecated) else { return Ok(None) };
    let profile = match text {
        "runtime/default" | "docker/default" => Profile::RuntimeDefault,
        "unconfined" => Profile::Unconfined,
        _ => match text.strip_prefix("localhost/") {
            Some(name) => Profile::Localhost(name.to_owned()),
            None => return Err(invalid(deprecated_field, format!("unknown profile {text:?}"))),
        },
    };
    Ok(Some((profile, deprecated_field)))
}

// The deprecated text is what a kubelet before 1.19 sends.
#[allow(deprecated)]
fn seccomp(context: &v1::LinuxContainerSecurityContext, field: &str) -> Result<SeccompRequest, RequestError> {
    let profile = profile(
        context.seccomp.as_ref(),
        format!("{field}.seccomp"),
        &context.seccomp_profile_path,
        format!("{field}.seccomp_profile_path"),
    )?;
    Ok(match profile {
        None | Some((Profile::Unconfined, _)) => SeccompRequest::Unconfined,
        Some((Profile::RuntimeDefault, _)) => SeccompRequest::Default,
        Some((Profile::Localhost(path), field)) => SeccompRequest::File(absolute_path(&path, &field)?),
    })
}

/// Without AppArmor on the host its default profile means nothing, while a named one cannot be honoured. With it, the engine has
/// no default profile to apply yet, and says so to a caller who asks for one.
#[allow(deprecated)]
fn apparmor(
    context: &v1::LinuxContainerSecurityContext,
    host: &HostFacts,
    field: &str,
) -> Result<ApparmorRequest, RequestError> {
    let profile = profile(
        context.apparmor.as_ref(),
        format!("{field}.apparmor"),
        &context.apparmor_profile,
        format!("{field}.apparmor_profile"),
    )?;
    match profile {
        None | Some((Profile::Unconfined, _)) => Ok(ApparmorRequest::Unconfined),
        Some((Profile::RuntimeDefault, _)) if !host.apparmor => Ok(ApparmorRequest::Unconfined),
        Some((Profile::RuntimeDefault, field)) => Err(unsupported(field, "there is no default AppArmor profile yet")),
        Some((Profile::Localhost(name), field)) if !host.apparmor => {
            Err(invalid(field, format!("profile {name:?} cannot be applied: AppArmor is off on this host")))
        }
        Some((Profile::Localhost(name), field)) => Ok(ApparmorRequest::Profile(non_empty(&name, &field)?.to_owned())),
    }
}

fn paths(paths: &[String], field: &str) -> Result<Vec<String>, RequestError> {
    for (index, path) in paths.iter().enumerate() {
        let _: PathBuf = absolute_path(path, &format!("{field}[{index}]"))?;
    }
    Ok(paths.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: HostFacts = HostFacts { apparmor: false, selinux: false, recursive_readonly: true };
    const LABELLED: HostFacts = HostFacts { apparmor: true, selinux: true, recursive_readonly: true };
    type Context = v1::LinuxContainerSecurityContext;

    fn of(profile_type: ProfileType, localhost_ref: &str) -> Option<v1::SecurityProfile> {
        Some(v1::SecurityProfile { profile_type: profile_type.into(), localhost_ref: localhost_ref.into() })
    }

    #[test]
    #[allow(deprecated)]
    fn the_seccomp_message_wins_over_the_deprecated_text() {
        for (message, text, wanted) in [
            (None, "", Ok(SeccompRequest::Unconfined)),
            (None, "unconfined", Ok(SeccompRequest::Unconfined)),
            (None, "runtime/default", Ok(SeccompRequest::Default)),
            (None, "docker/default", Ok(SeccompRequest::Default)),
            (None, "localhost//p.json", Ok(SeccompRequest::File("/p.json".into()))),
            (None, "localhost/p.json", Err("c.seccomp_profile_path")),
            (None, "other", Err("c.seccomp_profile_path")),
            (of(ProfileType::RuntimeDefault, ""), "unconfined", Ok(SeccompRequest::Default)),
            (of(ProfileType::Unconfined, ""), "runtime/default", Ok(SeccompRequest::Unconfined)),
            (of(ProfileType::Localhost, "/a.json"), "", Ok(SeccompRequest::File("/a.json".into()))),
            (of(ProfileType::Localhost, "localhost//a.json"), "", Ok(SeccompRequest::File("/a.json".into()))),
            (of(ProfileType::Localhost, ""), "runtime/default", Err("c.seccomp.localhost_ref")),
            (of(ProfileType::Localhost, "a.json"), "", Err("c.seccomp.localhost_ref")),
        ] {
            let context = Context { seccomp: message.clone(), seccomp_profile_path: text.into(), ..Default::default() };
            let got = seccomp(&context, "c").map_err(|error| match error {
                RequestError::Invalid { field, .. } => field,
                other => panic!("{other}"),
            });
            assert_eq!(got, wanted.map_err(str::to_owned), "{message:?} {text:?}");
        }
    }

    #[test]
    #[allow(deprecated)]
    fn apparmor_is_promised_only_where_it_can_be_kept() {
        let context =
            |message, text: &str| Context { apparmor: message, apparmor_profile: text.into(), ..Default::default() };
        for (given, host, wanted) in [
            (context(None, ""), LABELLED, Ok(ApparmorRequest::Unconfined)),
            (context(None, "unconfined"), LABELLED, Ok(ApparmorRequest::Unconfined)),
            (context(None, "runtime/default"), PLAIN, Ok(ApparmorRequest::Unconfined)),
            (context(None, "localhost/web"), LABELLED, Ok(ApparmorRequest::Profile("web".into()))),
            (
                context(of(ProfileType::Localhost, "web"), "unconfined"),
                LABELLED,
                Ok(ApparmorRequest::Profile("web".into())),
            ),
            (context(of(ProfileType::Unconfined, ""), "localhost/web"), LABELLED, Ok(ApparmorRequest::Unconfined)),
            (context(of(ProfileType::RuntimeDefault, ""), ""), PLAIN, Ok(ApparmorRequest::Unconfined)),
            (
                context(of(ProfileType::RuntimeDefault, ""), ""),
                LABELLED,
                Err(unsupported("c.apparmor.localhost_ref", "there is no default AppArmor profile yet")),
            ),
            (
                context(of(ProfileType::Localhost, "web"), ""),
                PLAIN,
                Err(invalid(
                    "c.apparmor.localhost_ref",
                    "profile \"web\" cannot be applied: AppArmor is off on this host",
                )),
            ),
            (
                context(of(ProfileType::Localhost, ""), ""),
                LABELLED,
                Err(invalid("c.apparmor.localhost_ref", "is empty")),
            ),
        ] {
            assert_eq!(apparmor(&given, &host, "c"), wanted, "{given:?}");
        }
    }

    #[test]
    fn capabilities_have_one_spelling() {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let given = v1::Capability {
            add_capabilities: list(&["net_admin", "CAP_SYS_TIME", "ALL"]),
            drop_capabilities: list(&["CHOWN"]),
            add_ambient_capabilities: list(&["NET_BIND_SERVICE"]),
        };
        let wanted = CapabilityRequest {
            add: list(&["NET_ADMIN", "SYS_TIME", "ALL"]),
            drop: list(&["CHOWN"]),
            add_ambient: list(&["NET_BIND_SERVICE"]),
        };
        assert_eq!(capabilities(Some(&given), "c"), Ok(wanted));
        for wrong in ["", "CAP_", "NET ADMIN", "NÉT"] {
            assert!(capability(wrong, "c").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_context_says_all_and_its_absence_leaves_the_defaults() {
        let ordinary = PodRequest::default();
        let absent = security(None, &ordinary, &PLAIN, "c").expect("nothing to refuse");
        assert_eq!((absent.masked_paths, absent.seccomp), (None, SeccompRequest::Unconfined));
        let empty = security(Some(&Context::default()), &ordinary, &PLAIN, "c").expect("nothing to refuse");
        assert_eq!((empty.masked_paths, empty.readonly_paths), (Some(vec![]), Some(vec![])));
        let full = Context {
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            no_new_privs: true,
            readonly_rootfs: true,
            ..Default::default()
        };
        let wanted = SecurityRequest {
            seccomp: SeccompRequest::Unconfined,
            masked_paths: Some(vec!["/proc/kcore".into()]),
            readonly_paths: Some(vec!["/proc/sys".into()]),
            no_new_privileges: true,
            readonly_rootfs: true,
            ..Default::default()
        };
        assert_eq!(security(Some(&full), &ordinary, &PLAIN, "c"), Ok(wanted));
        let climbing = Context { masked_paths: vec!["/proc/../etc".into()], ..Default::default() };
        assert!(security(Some(&climbing), &ordinary, &PLAIN, "c").is_err());
    }

    #[test]
    fn privilege_is_for_privileged_sandboxes_only() {
        let context = Context { privileged: true, ..Default::default() };
        let error = security(Some(&context), &PodRequest::default(), &PLAIN, "c").expect_err("refused");
        assert_eq!(error, invalid("c.privileged", "the pod sandbox is not privileged"));
        let pod = PodRequest { privileged: true, ..Default::default() };
        let filtered = Context { seccomp: of(ProfileType::RuntimeDefault, ""), ..context };
        let granted = security(Some(&filtered), &pod, &PLAIN, "c").expect("allowed");
        assert_eq!((granted.privileged, granted.seccomp), (true, SeccompRequest::Unconfined));
    }

    #[test]
    fn an_selinux_label_is_refused_only_where_it_would_mean_something() {
        let label = v1::SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() };
        assert_eq!(no_selinux(Some(&label), &PLAIN, "c"), Ok(()));
        assert_eq!(no_selinux(Some(&v1::SeLinuxOption::default()), &LABELLED, "c"), Ok(()));
        assert!(matches!(no_selinux(Some(&label), &LABELLED, "c"), Err(RequestError::Unsupported { .. })));
    }
}
