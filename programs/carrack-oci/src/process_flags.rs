//! The process that `exec` runs: a file, or the bundle's process changed by flags.

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
