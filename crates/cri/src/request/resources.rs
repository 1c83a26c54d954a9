//! Limits of a container. In the interface's messages zero means "not said".

use carrack_cri_proto::v1;
use carrack_engine::request::ResourceRequest;

use super::{RequestError, given, invalid, without_zero};

/// The limits; an absent message sets none.
pub(super) fn resources(
    resources: Option<&v1::LinuxContainerResources>,
    field: &str,
) -> Result<ResourceRequest, RequestError> {
    let Some(given_resources) = resources else { return Ok(ResourceRequest::default()) };
    let v1::LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes,
    } = given_resources;
    let positive = |value: i64, name: &str| match value {
        0 => Ok(None),
        value => u64::try_from(value)
            .map(Some)
            .map_err(|_| invalid(format!("{field}.{name}"), format!("{value} is negative"))),
    };
    // -1 takes a limit away; other negative numbers mean nothing.
    let limit = |value: i64, name: &str| match value {
        0 => Ok(None),
        -1 | 1.. => Ok(Some(value)),
        _ => Err(invalid(format!("{field}.{name}"), format!("{value} is neither a limit nor -1"))),
    };
    Ok(ResourceRequest {
        cpu_shares: positive(*cpu_shares, "cpu_shares")?,
        cpu_quota_usec: limit(*cpu_quota, "cpu_quota")?,
        cpu_period_usec: positive(*cpu_period, "cpu_period")?,
        cpuset_cpus: cpu_list(cpuset_cpus, &format!("{field}.cpuset_cpus"))?,
        cpuset_mems: cpu_list(cpuset_mems, &format!("{field}.cpuset_mems"))?,
        memory_bytes: limit(*memory_limit_in_bytes, "memory_limit_in_bytes")?,
        memory_swap_bytes: limit(*memory_swap_limit_in_bytes, "memory_swap_limit_in_bytes")?,
        pids: None,
        hugepages: hugepages(hugepage_limits, &format!("{field}.hugepage_limits"))?,
        unified: unified_files(unified, &format!("{field}.unified"))?,
        oom_score_adj: Some(oom_score(*oom_score_adj, &format!("{field}.oom_score_adj"))?),
    })
}

/// Digits, commas and dashes (cpuset(7), "List format"); the kernel checks the rest.
fn cpu_list(list: &str, field: &str) -> Result<Option<String>, RequestError> {
    if !list.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '-') {
        return Err(invalid(field, format!("{list:?} is not a list like 0-3,7")));
    }
    Ok(given(list).map(str::to_owned))
}

/// Zero is a limit like any other here: the kubelet sends it for every page size. The engine leaves out what the host lacks.
fn hugepages(limits: &[v1::HugepageLimit], field: &str) -> Result<Vec<(String, u64)>, RequestError> {
    let is_size = |size: &str| {
        ["KB", "MB", "GB"].iter().any(|unit| {
            let number = size.strip_suffix(unit).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    for (index, limit) in limits.iter().enumerate() {
        // It becomes part of a file's name.
        if !is_size(&limit.page_size) {
            let reason = format!("{:?} is not a size like 2MB", limit.page_size);
            return Err(invalid(format!("{field}[{index}].page_size"), reason));
        }
    }
    Ok(limits.iter().map(|limit| (limit.page_size.clone(), limit.limit)).collect())
}

/// Keys are names of files in the container's group, and nowhere else.
fn unified_files(
    files: &std::collections::BTreeMap<String, String>,
    field: &str,
) -> Result<std::collections::BTreeMap<String, String>, RequestError> {
    for (name, value) in files {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-KMGB".contains(c);
        if !name.contains('.') || name.starts_with('.') || !name.chars().all(legal) {
            return Err(invalid(format!("{field}[{name:?}]"), "is not the name of a cgroup v2 file"));
        }
        without_zero(value, || format!("{field}[{name:?}]"))?;
    }
    Ok(files.clone())
}

fn oom_score(score: i64, field: &str) -> Result<i32, RequestError> {
    i32::try_from(score)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| invalid(field, format!("{score} is out of range: want -1000 to 1000")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_the_kubelet_sends_arrives() {
        let page = |size: &str, limit| v1::HugepageLimit { page_size: size.into(), limit };
        let given = v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -998,
            cpuset_cpus: "0-3,7".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![page("2MB", 0), page("1GB", 1 << 30), page("64KB", 0)],
            unified: BTreeMap::from([("memory.oom.group".into(), "1".into())]),
            memory_swap_limit_in_bytes: 64 << 20,
        };
        let wanted = ResourceRequest {
            cpu_shares: Some(512),
            cpu_quota_usec: Some(50_000),
            cpu_period_usec: Some(100_000),
            cpuset_cpus: Some("0-3,7".into()),
            cpuset_mems: Some("0".into()),
            memory_bytes: Some(64 << 20),
            memory_swap_bytes: Some(64 << 20),
            pids: None,
            hugepages: vec![("2MB".into(), 0), ("1GB".into(), 1 << 30), ("64KB".into(), 0)],
            unified: BTreeMap::from([("memory.oom.group".into(), "1".into())]),
            oom_score_adj: Some(-998),
        };
        assert_eq!(resources(Some(&given), "r"), Ok(wanted));
    }

    #[test]
    fn zero_says_nothing_and_minus_one_takes_a_limit_away() {
        assert_eq!(resources(None, "r"), Ok(ResourceRequest::default()));
        let zeros = v1::LinuxContainerResources::default();
        assert_eq!(resources(Some(&zeros), "r"), Ok(ResourceRequest { oom_score_adj: Some(0), ..Default::default() }));
        let lifted = v1::LinuxContainerResources {
            cpu_quota: -1,
            memory_limit_in_bytes: -1,
            memory_swap_limit_in_bytes: -1,
            ..Default::default()
        };
        let wanted = ResourceRequest {
            cpu_quota_usec: Some(-1),
            memory_bytes: Some(-1),
            memory_swap_bytes: Some(-1),
            oom_score_adj: Some(0),
            ..Default::default()
        };
        assert_eq!(resources(Some(&lifted), "r"), Ok(wanted));
    }

    #[test]
    fn limits_that_mean_nothing_are_refused() {
        type Given = v1::LinuxContainerResources;
        let page = |size: &str| vec![v1::HugepageLimit { page_size: size.into(), limit: 1 }];
        let file = |name: &str| BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        for (wrong, field) in [
            (Given { cpu_shares: -2, ..Default::default() }, "r.cpu_shares"),
            (Given { cpu_period: -1, ..Default::default() }, "r.cpu_period"),
            (Given { cpu_quota: -2, ..Default::default() }, "r.cpu_quota"),
            (Given { memory_limit_in_bytes: i64::MIN, ..Default::default() }, "r.memory_limit_in_bytes"),
            (Given { memory_swap_limit_in_bytes: -5, ..Default::default() }, "r.memory_swap_limit_in_bytes"),
            (Given { oom_score_adj: 1001, ..Default::default() }, "r.oom_score_adj"),
            (Given { oom_score_adj: -1001, ..Default::default() }, "r.oom_score_adj"),
            (Given { oom_score_adj: i64::MAX, ..Default::default() }, "r.oom_score_adj"),
            (Given { cpuset_cpus: "0\n1".into(), ..Default::default() }, "r.cpuset_cpus"),
            (Given { cpuset_mems: "all".into(), ..Default::default() }, "r.cpuset_mems"),
            (Given { hugepage_limits: page("../x"), ..Default::default() }, "r.hugepage_limits[0].page_size"),
            (Given { hugepage_limits: page("MB"), ..Default::default() }, "r.hugepage_limits[0].page_size"),
            (Given { unified: file("../cgroup.procs"), ..Default::default() }, r#"r.unified["../cgroup.procs"]"#),
            (Given { unified: file("memory/max"), ..Default::default() }, r#"r.unified["memory/max"]"#),
            (Given { unified: file(""), ..Default::default() }, r#"r.unified[""]"#),
        ] {
            let error = resources(Some(&wrong), "r").expect_err(field);
            assert!(matches!(&error, RequestError::Invalid { field: at, .. } if at == field), "{error}");
        }
    }
}
