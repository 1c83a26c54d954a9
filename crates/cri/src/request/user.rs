//! Who a container's process runs as.

use carrack_cri_proto::v1;
use carrack_engine::request::UserRequest;

use super::{RequestError, given, invalid, known};

/// The user; nothing said means the image's.
///
/// Numbers are checked here and a name that is a number is refused, so that neither can wrap to, or be looked up as, another
/// user (CVE-2024-40635); a colon in a name would smuggle in a group.
pub(super) fn user(context: &v1::LinuxContainerSecurityContext, field: &str) -> Result<UserRequest, RequestError> {
    let user = match (&context.run_as_user, given(&context.run_as_username)) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                format!("{field}.run_as_username"),
                "only one of run_as_user and run_as_username is allowed",
            ));
        }
        (Some(number), None) => Some(id(number.value, &format!("{field}.run_as_user"))?.to_string()),
        (None, Some(name)) => Some(user_name(name, &format!("{field}.run_as_username"))?.to_owned()),
        (None, None) => None,
    };
    let group_field = format!("{field}.run_as_group");
    let group = context.run_as_group.as_ref().map(|group| id(group.value, &group_field)).transpose()?;
    if group.is_some() && user.is_none() {
        return Err(invalid(group_field, "needs run_as_user or run_as_username"));
    }
    let policy: v1::SupplementalGroupsPolicy =
        known(context.supplemental_groups_policy, &format!("{field}.supplemental_groups_policy"))?;
    Ok(UserRequest {
        user,
        group,
        supplemental_groups: supplemental_groups(
            &context.supplemental_groups,
            &format!("{field}.supplemental_groups"),
        )?,
        strict_groups: policy == v1::SupplementalGroupsPolicy::Strict,
    })
}

/// Checks every number.
pub(super) fn supplemental_groups(groups: &[i64], field: &str) -> Result<Vec<u32>, RequestError> {
    groups.iter().enumerate().map(|(index, group)| id(*group, &format!("{field}[{index}]"))).collect()
}

/// User and group ids go to 2³¹−1 here, as the engine has it for images too; 2³²−1 means "no change" to the kernel.
fn id(value: i64, field: &str) -> Result<u32, RequestError> {
    i32::try_from(value)
        .ok()
        .and_then(|value| u32::try_from(value).ok())
        .ok_or_else(|| invalid(field, format!("{value} is out of range: want 0 to {}", i32::MAX)))
}

fn user_name<'a>(name: &'a str, field: &str) -> Result<&'a str, RequestError> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(field, format!("{name:?} is a number: use run_as_user")));
    }
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(invalid(field, format!("{name:?} is not a user name")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: i64) -> Option<v1::Int64Value> {
        Some(v1::Int64Value { value })
    }

    #[test]
    fn user_group_and_further_groups_are_taken_as_given() {
        let context = |run_as_user, run_as_username: &str, run_as_group| v1::LinuxContainerSecurityContext {
            run_as_user,
            run_as_username: run_as_username.into(),
            run_as_group,
            ..Default::default()
        };
        let wanted =
            |user: Option<&str>, group| Ok(UserRequest { user: user.map(str::to_owned), group, ..Default::default() });
        assert_eq!(user(&context(None, "", None), "c"), wanted(None, None));
        assert_eq!(user(&context(number(0), "", None), "c"), wanted(Some("0"), None));
        assert_eq!(user(&context(number(1000), "", number(0)), "c"), wanted(Some("1000"), Some(0)));
        assert_eq!(user(&context(None, "www-data", number(33)), "c"), wanted(Some("www-data"), Some(33)));
        let groups = v1::LinuxContainerSecurityContext {
            supplemental_groups: vec![7, 2_147_483_647],
            supplemental_groups_policy: v1::SupplementalGroupsPolicy::Strict.into(),
            ..Default::default()
        };
        assert_eq!(
            user(&groups, "c"),
            Ok(UserRequest { supplemental_groups: vec![7, 2_147_483_647], strict_groups: true, ..Default::default() })
        );
    }

    #[test]
    fn nothing_wraps_or_changes_its_meaning() {
        type Context = v1::LinuxContainerSecurityContext;
        for (wrong, field) in [
            (Context { run_as_user: number(-1), ..Default::default() }, "c.run_as_user"),
            (Context { run_as_user: number(4_294_967_295), ..Default::default() }, "c.run_as_user"),
            (Context { run_as_user: number(4_294_967_296), ..Default::default() }, "c.run_as_user"),
            (Context { run_as_user: number(i64::MAX), ..Default::default() }, "c.run_as_user"),
            (Context { run_as_group: number(1), ..Default::default() }, "c.run_as_group"),
            (Context { run_as_user: number(1), run_as_group: number(-5), ..Default::default() }, "c.run_as_group"),
            (
                Context { run_as_user: number(1), run_as_username: "a".into(), ..Default::default() },
                "c.run_as_username",
            ),
            (Context { run_as_username: "0".into(), ..Default::default() }, "c.run_as_username"),
            (Context { run_as_username: "99999999999999999999".into(), ..Default::default() }, "c.run_as_username"),
            (Context { run_as_username: "nobody:root".into(), ..Default::default() }, "c.run_as_username"),
            (Context { run_as_username: "a\nb".into(), ..Default::default() }, "c.run_as_username"),
            (Context { supplemental_groups: vec![1, -1], ..Default::default() }, "c.supplemental_groups[1]"),
            (Context { supplemental_groups_policy: 2, ..Default::default() }, "c.supplemental_groups_policy"),
        ] {
            let error = user(&wrong, "c").expect_err(field);
            assert!(matches!(&error, RequestError::Invalid { field: at, .. } if at == field), "{error}");
        }
    }
}
