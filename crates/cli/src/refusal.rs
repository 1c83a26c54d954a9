//! Flags that docker users know and that are not offered yet: refused by name, never ignored.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of `docker run` that this program has not got.
const RUN: &[&str] = &[
    "--add-host",
    "--annotation",
    "--attach",
    "-a",
    "--blkio-weight",
    "--blkio-weight-device",
    "--cgroup-parent",
    "--cgroupns",
    "--cidfile",
    "--cpu-count",
    "--cpu-percent",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "--cpu-shares",
    "-c",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--detach-keys",
    "--device",
    "--device-cgroup-rule",
    "--device-read-bps",
    "--device-read-iops",
    "--device-write-bps",
    "--device-write-iops",
    "--disable-content-trust",
    "--dns",
    "--dns-opt",
    "--dns-option",
    "--dns-search",
    "--domainname",
    "--expose",
    "--gpus",
    "--group-add",
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-interval",
    "--health-start-period",
    "--health-timeout",
    "-h",
    "--init",
    "--ip",
    "--ip6",
    "--ipc",
    "--isolation",
    "--kernel-memory",
    "--label",
    "-l",
    "--label-file",
    "--link",
    "--link-local-ip",
    "--log-driver",
    "--log-opt",
    "--mac-address",
    "--memory-reservation",
    "--memory-swap",
    "--memory-swappiness",
    "--mount",
    "--network-alias",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--oom-score-adj",
    "--pid",
    "--publish-all",
    "-P",
    "--pull",
    "--quiet",
    "-q",
    "--runtime",
    "--security-opt",
    "--shm-size",
    "--sig-proxy",
    "--stop-signal",
    "--stop-timeout",
    "--storage-opt",
    "--sysctl",
    "--tmpfs",
    "--ulimit",
    "--use-api-socket",
    "--userns",
    "--uts",
    "--volume-driver",
    "--volumes-from",
];

/// Flags of other docker commands that this program has not got.
const OTHER: &[&str] = &[
    "--all-tags",
    "--all-platforms",
    "--attach",
    "--checkpoint",
    "--detach",
    "-d",
    "--detach-keys",
    "--details",
    "--digests",
    "--disable-content-trust",
    "--env-file",
    "--filter",
    "-f",
    "--last",
    "--latest",
    "--link",
    "--no-prune",
    "--since",
    "--size",
    "-s",
    "--signal",
    "--type",
    "--until",
    "--interactive",
    "-i",
    "-a",
];

/// What to print for a command line that clap refused: a sentence that names the flag where docker has it.
pub fn explain(error: &clap::Error, verb: Option<&str>) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let ContextValue::String(flag) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = flag.split('=').next().unwrap_or(flag);
    let verb = verb?;
    let known = if verb == "run" { RUN } else { OTHER };
    known
        .contains(&flag)
        .then(|| format!("{flag} is not supported yet by `carrack {verb}`; `carrack {verb} --help` lists what is"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::CommandLine;
    use clap::Parser;

    #[test]
    fn a_flag_of_docker_that_is_missing_is_refused_by_name() {
        for flag in ["--gpus=all", "--mount", "--link", "-P", "--health-cmd"] {
            let error = CommandLine::try_parse_from(["carrack", "run", flag, "alpine"]).unwrap_err();
            let said = explain(&error, Some("run")).unwrap_or_else(|| panic!("{flag}: {error}"));
            assert!(said.contains(flag.split('=').next().unwrap()), "{said}");
        }
        let error = CommandLine::try_parse_from(["carrack", "run", "--no-such-thing", "alpine"]).unwrap_err();
        assert_eq!(explain(&error, Some("run")), None);
    }

    #[test]
    fn no_flag_is_both_offered_and_listed_as_missing() {
        use clap::CommandFactory;
        let command = CommandLine::command();
        let run = command.find_subcommand("run").unwrap();
        for argument in run.get_arguments() {
            let names =
                argument.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(|name| format!("--{name}"));
            let shorts = argument.get_short().map(|short| format!("-{short}"));
            for name in names.chain(shorts) {
                assert!(!RUN.contains(&name.as_str()), "{name}");
            }
        }
    }
}
