//! On which memory nodes a process's memory is (config-linux.md, "Memory policy"; set_mempolicy(2)).

use carrack_oci_config::LinuxMemoryPolicy;

use crate::plan::number_set::NumberSet;

/// Modes by name, at the place of their number.
pub const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// Flags by name. The first is 1 << 13.
pub const FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
const FIRST_FLAG: usize = 13;

/// A policy for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// The mode with its flags.
    pub mode: u32,
    /// The nodes; `None` for a mode that takes none.
    pub nodes: Option<NumberSet>,
}

/// Checks a policy; the words are runc's.
pub fn plan_memory_policy(wanted: &LinuxMemoryPolicy) -> Result<MemoryPolicy, String> {
    let number = MODES
        .iter()
        .position(|mode| *mode == wanted.mode)
        .ok_or_else(|| format!("invalid memory policy mode {:?}", wanted.mode))?;
    let mut mode = number as u32;
    for flag in &wanted.flags {
        let place = FLAGS
            .iter()
            .position(|known| known == flag)
            .ok_or_else(|| format!("invalid memory policy flag {flag:?}"))?;
        mode |= 1 << (FIRST_FLAG + place);
    }
    let nodes = NumberSet::parse(&wanted.nodes).map_err(|why| format!("parse memory policy nodes: {why}"))?;
    match (MODES[number], &nodes) {
        ("MPOL_DEFAULT" | "MPOL_LOCAL", Some(nodes)) => {
            Err(format!("memory policy mode requires 0 nodes but got {}", nodes.count()))
        }
        ("MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_PREFERRED_MANY" | "MPOL_WEIGHTED_INTERLEAVE", None) => {
            Err("memory policy mode requires at least one node but got 0".to_owned())
        }
        _ => Ok(MemoryPolicy { mode, nodes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: &str, nodes: &str, flags: &[&str]) -> Result<(u32, bool), String> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let wanted = LinuxMemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags };
        plan_memory_policy(&wanted).map(|policy| (policy.mode, policy.nodes.is_some()))
    }

    #[test]
    fn modes_and_flags_have_the_kernels_numbers_and_nodes_where_they_belong() {
        assert_eq!(plan("MPOL_DEFAULT", "", &[]), Ok((0, false)));
        assert_eq!(plan("MPOL_PREFERRED", "", &["MPOL_F_RELATIVE_NODES"]), Ok((1 | 1 << 14, false)));
        assert_eq!(plan("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"]), Ok((2 | 1 << 15, true)));
        assert_eq!(plan("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"]), Ok((2 | 1 << 13, true)));
        for (mode, nodes, flags, error) in [
            ("", "0", &[][..], "invalid memory policy mode \"\""),
            ("BIND", "0", &[], "invalid memory policy mode \"BIND\""),
            ("MPOL_BIND", "0", &["x"], "invalid memory policy flag \"x\""),
            ("MPOL_BIND", "", &[], "memory policy mode requires at least one node but got 0"),
            ("MPOL_LOCAL", "0-7", &[], "memory policy mode requires 0 nodes but got 8"),
            ("MPOL_BIND", "x", &[], "parse memory policy nodes: \"x\" is no number"),
        ] {
            assert_eq!(plan(mode, nodes, flags), Err(error.to_owned()));
        }
    }
}
