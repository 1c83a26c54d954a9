//! `checkpoint` and `restore`, whose work CRIU does.

use std::path::PathBuf;

use crate::arguments::{Flag, switch, value};

/// The flags of `checkpoint`.
pub const CHECKPOINT: &[Flag] = &[
    value("image-path", None),
    value("work-path", None),
    value("parent-path", None),
    switch("leave-running", None),
    switch("tcp-established", None),
    switch("tcp-skip-in-flight", None),
    switch("link-remap", None),
    switch("ext-unix-sk", None),
    switch("shell-job", None),
    switch("lazy-pages", None),
    value("status-fd", None),
    value("page-server", None),
    switch("file-locks", None),
    switch("pre-dump", None),
    value("manage-cgroups-mode", None),
    value("empty-ns", None),
    switch("auto-dedup", None),
];

/// The flags of `restore`.
pub const RESTORE: &[Flag] = &[
    value("console-socket", None),
    value("image-path", None),
    value("work-path", None),
    switch("tcp-established", None),
    switch("ext-unix-sk", None),
    switch("shell-job", None),
    switch("file-locks", None),
    value("manage-cgroups-mode", None),
    value("bundle", Some('b')),
    switch("detach", Some('d')),
    value("pid-file", None),
    switch("no-subreaper", None),
    switch("no-pivot", None),
    value("empty-ns", None),
    switch("auto-dedup", None),
    switch("lazy-pages", None),
    value("lsm-profile", None),
    value("lsm-mount-context", None),
];

/// Why it cannot be done; the words are runc's where CRIU is missing.
pub fn refusal(verb: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> =
        std::env::split_paths(&path).map(|directory| directory.join("criu")).find(|file| file.is_file());
    match found {
        None => "CRIU version check failed: exec: \"criu\": executable file not found in $PATH".into(),
        Some(criu) => format!("{verb}: not supported here yet, with {} neither", criu.display()),
    }
}
