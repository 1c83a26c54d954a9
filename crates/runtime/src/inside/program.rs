//! Finding the program to execute, with the errors that callers of OCI runtimes match on.

use std::ffi::CString;
use std::io;
use std::path::Path;

use carrack_sys::rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use carrack_sys::rustix::io::Errno;
use carrack_words::Kind;

use crate::describe::describe_io;
use crate::plan::process::{DEFAULT_PATH, ProcessPlan};
use crate::step::StepError;

/// The path to execute, found with the rights and in the directory that this process has now. A name with a slash is taken as it is; another is looked for
/// in the `PATH` of the process's own environment.
pub fn find_program(process: &ProcessPlan) -> Result<CString, StepError> {
    let name = &process.arguments[0];
    let text = name.to_string_lossy().into_owned();
    if name.as_bytes().contains(&b'/') {
        return match check(name) {
            Ok(()) => Ok(name.clone()),
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => Err(missing(&text, &error.into())),
            Err(error) => Err(refused(&text, &error.into())),
        };
    }
    let path = process.variable("PATH").unwrap_or(DEFAULT_PATH.as_bytes());
    let mut denied = None;
    for directory in path.split(|&byte| byte == b':') {
        // An empty entry would mean the working directory, which the image may have filled: Go's runtimes refuse it too.
        if !directory.starts_with(b"/") || name.as_bytes().is_empty() {
            continue;
        }
        let candidate = [directory, b"/", name.as_bytes()].concat();
        let candidate = CString::new(candidate).expect("neither the directory nor the name has a zero byte");
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error @ (Errno::ACCESS | Errno::PERM)) => denied = Some(error),
            Err(_) => {}
        }
    }
    match denied {
        // Found, but not executable by this user: that is what should be told.
        Some(error) => Err(refused(&text, &error.into())),
        None => Err(StepError::refused(Kind::NotFound, format!("exec: {text:?}: executable file not found in $PATH"))),
    }
}

/// Whether this process may execute the file. Of a directory callers expect to be told what the kernel says of one, EACCES: Docker and Podman
/// answer 126 to it, and do not know EISDIR.
fn check(path: &CString) -> Result<(), Errno> {
    let there = stat(path.as_c_str())?;
    if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
        return Err(Errno::ACCESS);
    }
    accessat(CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS)
}

fn missing(name: &str, error: &io::Error) -> StepError {
    StepError::refused(Kind::NotFound, format!("exec: {name:?}: stat {name}: {}", describe_io(error)))
}

fn refused(name: &str, error: &io::Error) -> StepError {
    StepError::refused(Kind::Denied, format!("exec: {name:?}: {}", describe_io(error)))
}

/// The error of an execve(2) that the checks above did not foresee: no interpreter, not a program.
pub fn exec_failed(name: &str, error: &io::Error) -> StepError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Invalid,
    };
    StepError::refused(kind, format!("exec {}: {}", Path::new(name).display(), describe_io(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::process::Shared;
    use carrack_oci_config::Process;

    fn find(name: &str, path: Option<&str>) -> Result<String, String> {
        let process = Process {
            args: vec![name.into()],
            cwd: "/".into(),
            env: path.map(|path| format!("PATH={path}")).into_iter().collect(),
            ..Process::default()
        };
        let plan = ProcessPlan::new(&process, Shared::default(), 0).unwrap();
        find_program(&plan).map(|path| path.into_string().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn programs_are_found_as_runc_finds_them() {
        assert_eq!(find("sh", Some("/nowhere:/bin")), Ok("/bin/sh".into()));
        assert_eq!(find("sh", None).map(|path| path.ends_with("/sh")), Ok(true));
        assert_eq!(find("/bin/sh", Some("")), Ok("/bin/sh".into()));
        for (name, path, text) in [
            ("no-such", "/bin", "exec: \"no-such\": executable file not found in $PATH"),
            ("sh", "bin::.", "exec: \"sh\": executable file not found in $PATH"),
            (
                "/proc/no-such-file",
                "",
                "exec: \"/proc/no-such-file\": stat /proc/no-such-file: no such file or directory",
            ),
            ("/etc/passwd/x", "", "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory"),
            ("/etc/passwd", "", "exec: \"/etc/passwd\": permission denied"),
            ("passwd", "/etc", "exec: \"passwd\": permission denied"),
            ("/etc", "", "exec: \"/etc\": permission denied"),
        ] {
            assert_eq!(find(name, Some(path)), Err(text.into()), "{name}");
        }
    }
}
