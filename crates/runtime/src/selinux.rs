//! SELinux: whether the host has it, and what must not be forgotten where it has not.

use carrack_sys::rustix::fs::statfs;
use carrack_words::Kind;

use crate::step::StepError;

/// Where the file system of its policy is mounted, if it is switched on.
const PLACE: &str = "/sys/fs/selinux";
/// `SELINUX_MAGIC` of `<linux/magic.h>`.
const MAGIC: i64 = 0xf97c_ff8c;

/// Refuses a label that would have no effect, in runc's words: whoever asks for one relies on it.
pub fn require_for(label: &str) -> Result<(), StepError> {
    if label.is_empty() || statfs(PLACE).is_ok_and(|found| found.f_type == MAGIC) {
        return Ok(());
    }
    let message = "selinux label is specified in config, but selinux is disabled or not supported";
    Err(StepError::refused(Kind::Unsupported, message))
}
