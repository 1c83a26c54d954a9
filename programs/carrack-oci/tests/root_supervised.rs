//! Under a supervisor: sockets handed over (sd_listen_fds(3)) and readiness told (sd_notify(3)).

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use carrack_sys::fd_passing;
use carrack_sys::rustix::net::RecvFlags;
use common::Bundle;
use serde_json::json;

#[test]
fn root_sockets_of_the_caller_are_the_containers() {
    need_root!("root_sockets_of_the_caller_are_the_containers");
    let mut bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l; cat <&3; cat <&4; cat <&5");
    bundle.write();
    for (number, text) in ["one\n", "two\n", "three\n"].into_iter().enumerate() {
        fs::write(bundle.directory.join(format!("file{number}")), text).unwrap();
    }
    let id = bundle.id();
    let run = |listen_pid: &str, flags: &str| {
        let script = format!(
            "exec 3<file0 4<file1 5<file2; export LISTEN_FDS=2 LISTEN_PID={listen_pid}; exec {} --root state run {flags} {id} 2>&1",
            common::program().display()
        );
        let said = Command::new("sh").args(["-c", &script]).current_dir(&bundle.directory).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    assert!(
        run("$$", "").starts_with("2 1\n6\none\ntwo\n"),
        "three streams, two sockets, and the directory that is listed"
    );
    assert_eq!(run("$$", "--preserve-fds 1"), "2 1\n7\none\ntwo\nthree\n");
    assert!(run("1", "").starts_with("\n4\n"), "what is meant for another process is not passed on");
    assert_eq!(run("$$", "--preserve-fds 60"), "--preserve-fds 60: handle 6 is not open\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

/// The program in the container: says that it is ready, and stays until it may go. By itself it does nothing.
#[test]
fn notifying_child() {
    if std::env::var_os("CARRACK_TEST_NOTIFY").is_none() {
        return;
    }
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(std::env::var_os("NOTIFY_SOCKET").expect("a socket")).unwrap();
    assert!(fs::write("/run/notify/mine", "").is_err(), "the directory belongs to the runtime");
    socket.send(b"STATUS=starting\nMAINPID=1").unwrap();
    socket.send(b"STATUS=up\nREADY=1").unwrap();
    while !fs::exists("/stop").unwrap() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn notifying(bundle: &mut Bundle) {
    let helper = bundle.inside("helper");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(helper).status().unwrap().success());
    bundle.config["process"]["args"] =
        json!(["/helper", "--exact", "notifying_child", "--nocapture", "--test-threads=1"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "CARRACK_TEST_NOTIFY=1"]);
    bundle.write();
}

/// What the supervisor hears, to the end of the barrier.
fn hear(supervisor: &UnixDatagram) -> Vec<String> {
    supervisor.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 256];
        let mut handles = Vec::new();
        let length = fd_passing::receive(supervisor, &mut buffer, &mut handles, RecvFlags::empty()).expect("a message");
        heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        if !handles.is_empty() {
            return heard;
        }
    }
}

#[test]
fn root_a_supervisor_hears_that_the_container_is_ready() {
    need_root!("root_a_supervisor_hears_that_the_container_is_ready");
    let mut bundle = Bundle::new("");
    notifying(&mut bundle);
    let [created, detached, staying] = [(); 3].map(|()| bundle.id());
    let address = bundle.directory.join("supervisor.sock");
    let supervisor = UnixDatagram::bind(&address).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = bundle.command(arguments);
        command.env("NOTIFY_SOCKET", &address).stdout(std::process::Stdio::null());
        command
    };
    let ready = |pid: &str| ["READY=1\n".to_owned(), format!("MAINPID={pid}\n"), "BARRIER=1".to_owned()];

    assert!(command(&["create", &created]).status().unwrap().success());
    let mut start = command(&["start", &created]).spawn().unwrap();
    let heard = hear(&supervisor);
    assert!(start.wait().unwrap().success());
    assert_eq!(heard, ready(&bundle.state(&created)["pid"].to_string()));
    assert_eq!(bundle.oci(&["delete", "-f", &created]).code, 0);

    let mut run = command(&["run", "-d", &detached]).spawn().unwrap();
    let heard = hear(&supervisor);
    assert!(run.wait().unwrap().success());
    assert_eq!(heard, ready(&bundle.state(&detached)["pid"].to_string()));
    assert_eq!(bundle.oci(&["delete", "-f", &detached]).code, 0);

    let mut run = command(&["run", &staying]).spawn().unwrap();
    assert_eq!(hear(&supervisor), ready(&run.id().to_string()));
    fs::write(bundle.inside("stop"), "").unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_second_start_takes_nothing_from_the_first() {
    need_root!("root_a_second_start_takes_nothing_from_the_first");
    let mut bundle = Bundle::new("");
    notifying(&mut bundle);
    // It says that it is ready only when it may.
    bundle.config["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "while ! test -e /go; do sleep 0.01; done; exec /helper --exact notifying_child --nocapture --test-threads=1"
    ]);
    bundle.write();
    let id = bundle.id();
    let address = bundle.directory.join("supervisor.sock");
    let supervisor = UnixDatagram::bind(&address).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = bundle.command(arguments);
        command.env("NOTIFY_SOCKET", &address);
        command
    };
    assert!(command(&["create", &id]).stdout(std::process::Stdio::null()).status().unwrap().success());
    let mut start = command(&["start", &id]).spawn().unwrap();
    bundle.await_status(&id, "running");
    let second = command(&["start", &id]).output().unwrap();
    assert_eq!(String::from_utf8(second.stderr).unwrap(), "cannot start an already running container\n");
    fs::write(bundle.inside("go"), "").unwrap();
    assert_eq!(hear(&supervisor)[0], "READY=1\n");
    assert!(start.wait().unwrap().success());
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_supervisor_that_is_gone_does_not_end_the_container() {
    need_root!("root_a_supervisor_that_is_gone_does_not_end_the_container");
    let mut bundle = Bundle::new("");
    notifying(&mut bundle);
    fs::write(bundle.inside("stop"), "").unwrap();
    let id = bundle.id();
    let said = bundle.command(&["run", &id]).env("NOTIFY_SOCKET", "/nobody/listens").output().unwrap();
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(error.contains("tell the supervisor that the container is ready: no such file or directory"), "{error}");
    assert!(said.status.success());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_what_a_dead_create_left_is_taken_over_and_what_is_somebody_elses_is_not() {
    need_root!("root_what_a_dead_create_left_is_taken_over_and_what_is_somebody_elses_is_not");
    let mut bundle = Bundle::new("");
    notifying(&mut bundle);
    fs::write(bundle.inside("stop"), "").unwrap();
    let address = bundle.directory.join("supervisor.sock");
    let supervisor = UnixDatagram::bind(&address).unwrap();
    let id = bundle.id();
    let left = bundle.directory.join("state").join(&id);
    fs::create_dir_all(left.join("notify/strange")).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(bundle.command(&["run", &id]).env("NOTIFY_SOCKET", &address).status().unwrap().success());
    drop(supervisor);
    for (mode, content) in [(0o755, None), (0o700, Some("theirs"))] {
        fs::create_dir(&left).unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(mode)).unwrap();
        if let Some(name) = content {
            fs::write(left.join(name), "").unwrap();
        }
        let said = bundle.oci(&["create", &id]);
        assert_eq!(said.err, "container with given ID already exists\n");
        assert_eq!(fs::metadata(&left).unwrap().permissions().mode() & 0o777, mode);
        fs::remove_dir_all(&left).unwrap();
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
