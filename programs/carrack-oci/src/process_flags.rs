//! The process that `exec` runs: a file, or the bundle's process changed by flags.

use std::collections::BTreeMap;

use carrack_oci_config::Process;
use carrack_runtime::grant;

use crate::arguments::{Parsed, UsageError};

/// The groups of `--additional-gids`; another kind of error than what [`apply`] finds, as with runc.
pub fn additional_gids(flags: &Parsed) -> Result<Vec<u32>, UsageError> {
    let number = |text: &String| {
        text.parse().map_err(|_| UsageError(format!("invalid value {text:?} for flag -additional-gids: not a number")))
    };
    flags.all("additional-gids").iter().map(number).collect()
}

/// Changes the bundle's process as the flags of `exec` say; the errors are in runc's words.
pub fn apply(mut process: Process, flags: &Parsed, command: &[String]) -> Result<Process, String> {
    if command.is_empty() {
        return Err("process args cannot be empty".into());
    }
    process.args = command.to_vec();
    // The container's terminal says nothing about this process.
    process.terminal = flags.is_set("tty");
    if let Some(cwd) = flags.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    process.env.extend(flags.all("env"));
    if let Some(user) = flags.value("user") {
        let (uid, gid) = parse_user(user)?;
        process.user.uid = uid;
        if let Some(gid) = gid {
            process.user.gid = gid;
        }
    }
    process.user.additional_gids.extend(additional_gids(flags).map_err(|error| error.0)?);
    grant(&mut process, &flags.all("cap"));
    if let Some(profile) = flags.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if let Some(label) = flags.value("process-label") {
        process.selinux_label = label.to_owned();
    }
    if let Some(is_set) = flags.value("no-new-privs") {
        process.no_new_privileges = is_set == "true";
    }
    Ok(process)
}

/// Groups by controller from `--cgroup [controller[,controller]:]path`; the errors are in runc's words.
pub fn sub_groups(given: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut groups = BTreeMap::new();
    for text in given {
        let invalid = |why: &str| Err(format!("invalid --cgroup argument: {text}{why}"));
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(path), None, _) if given.len() == 1 => {
                groups.insert(String::new(), path.to_owned());
            }
            (_, None, _) => return invalid(" (missing <controller>: prefix)"),
            (Some(controllers), Some(path), None) => {
                for controller in controllers.split(',') {
                    if controller.is_empty() {
                        return invalid("");
                    }
                    if groups.insert(controller.to_owned(), path.to_owned()).is_some() {
                        return invalid(&format!(" (controller {controller} is given twice)"));
                    }
                }
            }
            _ => return invalid(""),
        }
    }
    Ok(groups)
}

/// `uid[:gid]`, numbers only: names belong to the image, and whoever calls us has resolved them.
fn parse_user(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |part: &str, what: &str| {
        let failed =
            |_| format!("parsing {part} as int for {what} failed: strconv.Atoi: parsing {part:?}: invalid syntax");
        part.parse::<u32>().map_err(failed)
    };
    match text.split_once(':') {
        Some((uid, gid)) => {
            let gid = number(gid, "gid")?;
            Ok((number(uid, "uid")?, Some(gid)))
        }
        None => Ok((number(text, "uid")?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{After, switch, value};

    #[test]
    fn a_user_is_numbers_and_nothing_else() {
        assert_eq!(parse_user("7"), Ok((7, None)));
        assert_eq!(parse_user("7:8"), Ok((7, Some(8))));
        for bad in ["root", "-1", "7:wheel", "4294967296", "", "7:"] {
            assert!(parse_user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_are_one_path_for_all_or_paths_by_controller() {
        let groups = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            sub_groups(&given)
                .map(|groups| groups.into_iter().map(|(name, path)| name + "=" + &path).collect::<Vec<_>>())
        };
        assert_eq!(groups(&[]), Ok(vec![]));
        assert_eq!(groups(&["/a"]), Ok(vec!["=/a".into()]));
        assert_eq!(
            groups(&["cpu,cpuacct:a", "pids:/b"]),
            Ok(vec!["cpu=a".into(), "cpuacct=a".into(), "pids=/b".into()])
        );
        for (given, why) in [
            (&["a", "pids:b"][..], "a (missing <controller>: prefix)"),
            (&["a:b:c"], "a:b:c"),
            (&[":b"], ":b"),
            (&["pids:a", "pids:b"], "pids:b (controller pids is given twice)"),
        ] {
            assert_eq!(groups(given), Err(format!("invalid --cgroup argument: {why}")));
        }
    }

    #[test]
    fn flags_change_the_bundles_process() {
        let flags = [value("user", None), value("env", None), value("cap", None), switch("tty", None)];
        let words: Vec<_> = ["--user", "1:2", "--env", "A=1", "--cap", "CAP_KILL", "c"].map(str::to_owned).to_vec();
        let parsed = Parsed::parse(&words, &flags, After::Rest).unwrap();
        let base = Process { terminal: true, cwd: "/".into(), env: vec!["B=2".into()], ..Process::default() };
        let process = apply(base.clone(), &parsed, &["ls".into()]).unwrap();
        assert_eq!((process.user.uid, process.user.gid, process.terminal), (1, 2, false));
        assert_eq!((process.args, process.env), (vec!["ls".to_owned()], vec!["B=2".to_owned(), "A=1".to_owned()]));
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_KILL"]);
        assert!(apply(base, &parsed, &[]).is_err());
    }
}
