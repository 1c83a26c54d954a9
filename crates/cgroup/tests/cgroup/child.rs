//! A shell that waits outside, is put into a group, and then runs a script there.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use carrack_cgroup::Group;
use carrack_sys::rustix::process::Pid;

pub struct Waiting {
    shell: Child,
}

impl Waiting {
    pub fn in_group(group: &Group, script: &str) -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a shell");
        group.add_process(Pid::from_child(&shell)).expect("put the shell into the group");
        Self { shell }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.shell)
    }

    /// Lets the script begin.
    pub fn go(&mut self) {
        self.shell.stdin.as_mut().expect("a pipe").write_all(b"go\n").expect("a shell that reads");
    }

    pub fn run(mut self) -> Output {
        self.go();
        self.shell.wait_with_output().expect("the shell's end")
    }

    pub fn wait(self) -> Output {
        self.shell.wait_with_output().expect("the shell's end")
    }
}
