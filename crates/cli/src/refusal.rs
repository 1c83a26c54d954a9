//! What is said of a command line that makes no sense, or that asks for what docker has and this program has not yet.
//!
//! Whatever docker's users know is refused by its name, never ignored and never taken for a misspelling. Pure.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of docker that this program has not got, and what to do instead.
const COMMANDS: &[(&str, &str)] = &[
    ("build", "build with another tool, push the image to a registry and `carrack pull` it, or `carrack load` it"),
    ("builder", ""),
    ("buildx", ""),
    ("checkpoint", ""),
    ("commit", ""),
    ("compose", ""),
    ("config", ""),
    ("container", "`carrack ps`, `carrack run`, `carrack rm` and so on stand by themselves"),
    ("context", ""),
    ("cp", "`carrack exec CONTAINER cat FILE` reads a file, `-v` shares a directory"),
    ("create", "`carrack run -d` creates and starts"),
    ("diff", ""),
    ("events", ""),
    ("export", ""),
    ("history", ""),
    ("image", "`carrack images`, `carrack pull`, `carrack rmi` and so on stand by themselves"),
    ("import", ""),
    ("login", "what `docker login` or `skopeo login` wrote to ~/.docker/config.json is used"),
    ("logout", ""),
    ("manifest", ""),
    ("network", "`carrack run --network` knows bridge, host and none"),
    ("node", ""),
    ("pause", ""),
    ("plugin", ""),
    ("port", "`carrack ps` shows published ports"),
    ("push", ""),
    ("rename", ""),
    ("restart", "`carrack stop`, then `carrack start`"),
    ("save", ""),
    ("search", ""),
    ("secret", ""),
    ("service", ""),
    ("stack", ""),
    ("stats", ""),
    ("swarm", ""),
    ("system", "`carrack info` tells what the engine and its host are"),
    ("top", "`carrack exec CONTAINER ps`"),
    ("trust", ""),
    ("unpause", ""),
    ("update", ""),
    ("volume", "`carrack run -v NAME:PATH` makes a volume, `carrack rm -v` removes one without a name"),
];

/// Flags of docker that stand before a command.
const GLOBAL: &[&str] = &[
    "--config",
    "-c",
    "--context",
    "-D",
    "--debug",
    "-H",
    "--host",
    "-l",
    "--log-level",
    "--tls",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--tlsverify",
];

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
    "--init",
    "--io-maxbandwidth",
    "--io-maxiops",
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
    "--net-alias",
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

/// Flags of docker's other commands that this program has not got.
const OTHERS: &[(&str, &[&str])] = &[
    ("exec", &["-d", "--detach", "--detach-keys", "--env-file"]),
    ("ps", &["-f", "--filter", "-n", "--last", "-l", "--latest", "-s", "--size"]),
    ("logs", &["--details", "--since", "--until"]),
    ("stop", &["-s", "--signal"]),
    ("start", &["--checkpoint", "--checkpoint-dir", "--detach-keys"]),
    ("attach", &["--detach-keys", "--sig-proxy"]),
    ("rm", &["-l", "--link"]),
    ("inspect", &["-f", "-s", "--size", "--type"]),
    ("pull", &["-a", "--all-tags", "--disable-content-trust"]),
    ("images", &["-a", "--all", "--digests", "-f", "--filter", "--tree"]),
    ("rmi", &["--no-prune", "--platform"]),
    ("info", &["-f"]),
    ("version", &["-f"]),
    ("load", &["-i", "--input", "-q", "--quiet", "--platform"]),
];

/// What to print for a command line that clap refused; `verb` is the command on it.
pub fn explain(error: &clap::Error, verb: Option<&str>) -> String {
    let command = verb.map_or("carrack".to_owned(), |verb| format!("carrack {verb}"));
    let said = match error.kind() {
        ErrorKind::InvalidSubcommand => return unknown_command(error),
        ErrorKind::UnknownArgument => unknown_argument(error, verb, &command),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => invalid_value(error),
        ErrorKind::MissingRequiredArgument => {
            texts(error, ContextKind::InvalidArg).map(|missing| format!("`{command}` needs {}", plain(&missing)))
        }
        _ => None,
    };
    // What clap says of the rest names flag and value too.
    let said = said.unwrap_or_else(|| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    });
    format!("{said}\n`{command} --help` tells what there is")
}

fn unknown_command(error: &clap::Error) -> String {
    let name = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
    match COMMANDS.iter().find(|(command, _)| *command == name) {
        Some((_, "")) => format!("`carrack {name}` is not offered yet"),
        Some((_, instead)) => format!("`carrack {name}` is not offered yet: {instead}"),
        None => {
            let meant = texts(error, ContextKind::SuggestedSubcommand);
            let meant = meant.map(|names| format!(" Did you mean {}?", names.join(" or "))).unwrap_or_default();
            format!("there is no command {name:?}.{meant}\n`carrack help` lists all commands")
        }
    }
}

fn unknown_argument(error: &clap::Error, verb: Option<&str>, command: &str) -> Option<String> {
    let flag = text(error, ContextKind::InvalidArg)?;
    if !flag.starts_with('-') || flag == "-" {
        return Some(format!("`{command}` takes no further argument, but was given {flag:?}"));
    }
    let flag = flag.split('=').next().unwrap_or(&flag).to_owned();
    let known = match verb {
        None => GLOBAL,
        Some("run") => RUN,
        Some(verb) => OTHERS.iter().find(|(name, _)| *name == verb).map_or(&[][..], |(_, flags)| flags),
    };
    if known.contains(&flag.as_str()) {
        return Some(format!("{flag} is not offered yet by `{command}`"));
    }
    let meant = text(error, ContextKind::SuggestedArg);
    let meant = meant.map(|name| format!(". Did you mean {name}?")).unwrap_or_default();
    Some(format!("`{command}` has no flag {flag}{meant}"))
}

fn invalid_value(error: &clap::Error) -> Option<String> {
    let flag = text(error, ContextKind::InvalidArg)?;
    // As `--rm[=<RM>]` and `--format <FORMAT>`; the name is enough.
    let flag = flag.split(['[', ' ', '=']).next().unwrap_or(&flag).to_owned();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    if value.is_empty() {
        return Some(format!("{flag} needs a value"));
    }
    let want = match texts(error, ContextKind::ValidValue) {
        Some(values) if !values.is_empty() => {
            let templates = if value.contains("{{") { " (templates are not offered yet)" } else { "" };
            format!("want {}{templates}", values.join(" or "))
        }
        _ => match std::error::Error::source(error)? {
            number if number.is::<std::num::ParseIntError>() => "want a whole number".to_owned(),
            other => other.to_string(),
        },
    };
    Some(format!("invalid {flag} {value:?}: {want}"))
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Option<Vec<String>> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(vec![text.clone()]),
        ContextValue::Strings(texts) => Some(texts.clone()),
        _ => None,
    }
}

/// `<IMAGE> <COMMAND>...` without its signs.
fn plain(names: &[String]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.trim_matches(['<', '>', '.', '[', ']'])).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::CommandLine;
    use crate::grammar;
    use clap::CommandFactory;
    use std::ffi::OsString;

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = grammar::parse(&words).err().unwrap_or_else(|| panic!("{line} is accepted"));
        let said = explain(&error, grammar::verb(&words));
        said.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_is_refused_is_named_in_a_plain_sentence() {
        for (line, want) in [
            ("carrack run --gpus=all alpine", "--gpus is not offered yet by `carrack run`"),
            ("carrack run --mount x alpine", "--mount is not offered yet by `carrack run`"),
            ("carrack run -P alpine", "-P is not offered yet by `carrack run`"),
            ("carrack run --no-such-thing alpine", "`carrack run` has no flag --no-such-thing"),
            ("carrack run --hostnam x alpine", "`carrack run` has no flag --hostnam. Did you mean --hostname?"),
            ("carrack run", "`carrack run` needs IMAGE"),
            ("carrack run --rm=maybe alpine", "invalid --rm \"maybe\": want true or false"),
            ("carrack run --pids-limit=several alpine", "invalid --pids-limit \"several\": want a whole number"),
            ("carrack run --name", "--name needs a value"),
            ("carrack exec ship", "`carrack exec` needs COMMAND"),
            ("carrack ps --filter a=b", "--filter is not offered yet by `carrack ps`"),
            ("carrack ps ship", "`carrack ps` takes no further argument, but was given \"ship\""),
            (
                "carrack ps --format {{.ID}}",
                "invalid --format \"{{.ID}}\": want table or json (templates are not offered yet)",
            ),
            ("carrack --host tcp://there ps", "--host is not offered yet by `carrack`"),
            ("carrack diff ship", "`carrack diff` is not offered yet"),
            ("carrack top ship", "`carrack top` is not offered yet: `carrack exec CONTAINER ps`"),
            (
                "carrack help build",
                "`carrack build` is not offered yet: build with another tool, push the image to a registry and `carrack pull` it, or `carrack load` it",
            ),
            ("carrack puls", "there is no command \"puls\". Did you mean pull?"),
            ("carrack embark", "there is no command \"embark\"."),
        ] {
            assert_eq!(said(line), want, "{line}");
        }
    }

    #[test]
    fn nothing_is_both_offered_and_listed_as_missing() {
        let program = CommandLine::command();
        for (name, _) in COMMANDS {
            assert!(program.find_subcommand(name).is_none(), "{name}");
        }
        for (verb, flags) in OTHERS.iter().chain(&[("run", RUN)]) {
            let command = program.find_subcommand(verb).unwrap_or_else(|| panic!("there is no {verb}"));
            for argument in command.get_arguments() {
                let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
                let long = longs.into_iter().map(|name| format!("--{name}"));
                let shorts = argument.get_short_and_visible_aliases().unwrap_or_default();
                for name in long.chain(shorts.into_iter().map(|short| format!("-{short}"))) {
                    assert!(!flags.contains(&name.as_str()), "{verb} {name}");
                }
            }
        }
    }
}
