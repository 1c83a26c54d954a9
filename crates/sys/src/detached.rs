//! Starting a program in a session of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use crate::signal::{self, SignalSet};

/// Starts `command` as the leader of a new session, so that no terminal or group signal of the caller reaches it, and with no signal
/// blocked, whatever the caller blocks.
pub fn spawn_in_new_session(command: &mut Command) -> io::Result<Child> {
    // SAFETY: between fork and exec the closure makes two system calls, setsid(2) and rt_sigprocmask(2), and builds an error from
    // their numbers: nothing allocates, locks or logs.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            signal::block(SignalSet::default())?;
            Ok(())
        });
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_leads_a_session_and_blocks_no_signal() {
        // In a thread of its own, so that the mask is not that of other tests.
        let child = std::thread::spawn(|| {
            signal::block(SignalSet::NONE.with(libc::SIGTERM)).unwrap();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "cut -d' ' -f6 /proc/$$/stat; grep SigBlk /proc/self/status; echo $$"]);
            spawn_in_new_session(command.stdout(std::process::Stdio::piped())).unwrap()
        });
        let output = child.join().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let [session, blocked, pid] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(session, pid);
        assert_eq!(blocked, "SigBlk:\t0000000000000000");
    }
}
