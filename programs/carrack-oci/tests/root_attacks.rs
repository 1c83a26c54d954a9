//! Attacks that runtimes of this kind have suffered, played against this one. Those that are about one thing only are beside the tests of that thing
//! (`root_container.rs`: a program that is the runtime, a hostile working directory, links below destinations, a forged null device).

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::fs::{CWD, RenameFlags, renameat_with};
use common::{Bundle, busybox, is_unified};
use serde_json::json;

/// Runs a function of this file as the container's program.
fn become_helper(bundle: &mut Bundle, name: &str) {
    let helper = bundle.inside("helper");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(helper).status().unwrap().success());
    bundle.config["process"]["args"] = json!(["/helper", "--exact", name, "--nocapture", "--test-threads=1"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "CARRACK_TEST_ATTACK=1"]);
}

/// The program in the container: looks into every process that turns up until it may stop. By itself it does nothing.
#[test]
fn attacking_child() {
    if std::env::var_os("CARRACK_TEST_ATTACK").is_none() {
        return;
    }
    let (mut found, mut refused) = (BTreeSet::new(), 0_u32);
    let programs = ["/helper", "/bin/busybox"].map(PathBuf::from);
    while !fs::exists("/stop").unwrap() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<u32>().is_ok_and(|pid| pid > 1) {
                refused += look_into(&entry.path(), &programs, &mut found);
            }
        }
        fs::write("/refused.new", refused.to_string()).unwrap();
        fs::rename("/refused.new", "/refused").unwrap();
    }
    let found: Vec<_> = found.into_iter().collect();
    fs::write("/found", found.join("\n")).unwrap();
}

/// Everything by which a process in the container could be used or read before it is the container's own. 1 if it was seen and kept us out.
fn look_into(process: &Path, programs: &[PathBuf], found: &mut BTreeSet<String>) -> u32 {
    let exe = process.join("exe");
    match fs::read_link(&exe) {
        Err(error) if error.raw_os_error() == Some(13) => {}
        // It has ended, or is a zombie.
        Err(_) => return 0,
        Ok(program) if programs.contains(&program) => return 0,
        Ok(program) => {
            // Between the kernel's answers it may have become the program; only what can be written counts then.
            let is_writable = fs::OpenOptions::new().write(true).open(&exe).is_ok();
            found.insert(format!("{} writable: {is_writable}", program.display()));
            return 0;
        }
    }
    for what in ["mem", "environ", "maps"] {
        let opened = fs::File::open(process.join(what)).and_then(|mut file| {
            use std::io::Read;
            file.read(&mut [0; 1])
        });
        // Opened after it became the program, it is the program's: that has an `exe` that can be read.
        if opened.is_ok_and(|length| length > 0)
            && fs::read_link(&exe).is_err_and(|error| error.raw_os_error() == Some(13))
        {
            found.insert(format!("{what} of the runtime could be read"));
        }
    }
    if let Ok(handles) = fs::read_dir(process.join("fd")) {
        let names: Vec<_> = handles.flatten().filter_map(|handle| fs::read_link(handle.path()).ok()).collect();
        if fs::read_link(&exe).is_err_and(|error| error.raw_os_error() == Some(13)) {
            found.extend(names.iter().map(|name| format!("handle on {}", name.display())));
        }
    }
    1
}

#[test]
fn root_a_container_sees_nothing_of_the_runtime_while_that_enters_it() {
    need_root!("root_a_container_sees_nothing_of_the_runtime_while_that_enters_it");
    // CVE-2019-5736 (the host's program through /proc/<pid>/exe) and CVE-2016-9962 (its handles and memory), again and again during exec.
    let mut bundle = Bundle::new("");
    become_helper(&mut bundle, "attacking_child");
    bundle.write();
    let before = fs::read(common::program()).unwrap();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let refused = || fs::read_to_string(bundle.inside("refused")).unwrap_or_default().parse::<u32>().unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(30);
    // Until it has met the runtime often enough to have had its chances.
    while refused() < 10 {
        assert!(Instant::now() < deadline, "the attacker never met the runtime");
        assert_eq!(bundle.oci(&["exec", &id, "true"]).code, 0);
    }
    fs::write(bundle.inside("stop"), "").unwrap();
    bundle.await_status(&id, "stopped");
    assert_eq!(fs::read_to_string(bundle.inside("found")).unwrap(), "");
    assert!(fs::read(common::program()).unwrap() == before);
    assert_eq!(bundle.oci(&["delete", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_forged_proc_gets_neither_sysctls_nor_labels() {
    need_root!("root_a_forged_proc_gets_neither_sysctls_nor_labels");
    // CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2025-52881: /proc is no procfs, and its files are what the attacker
    // likes. A volume is refused there, a directory of the image is not.
    let mut bundle = Bundle::new("exec sleep 1000");
    let forged = bundle.inside("proc");
    let sysctl = forged.join("sys/net/ipv4/ip_forward");
    let label = forged.join("self/attr/apparmor/exec");
    let victim = bundle.directory.join("victim");
    fs::write(&victim, "untouched").unwrap();
    for file in [&sysctl, &label, &forged.join("thread-self/attr/exec"), &forged.join("self/attr/exec")] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        symlink(&victim, file).unwrap();
    }
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    assert_eq!(mounts.remove(0)["destination"], "/proc");
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    for key in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][key] = json!([]);
    }
    bundle.write();
    let id = bundle.id();
    let said = bundle.oci(&["run", "-d", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let network = fs::File::open(format!("/proc/{}/ns/net", bundle.state(&id)["pid"])).unwrap();
    let real = thread::spawn(move || {
        use std::os::fd::AsFd;
        namespace::join(network.as_fd(), Namespaces::NETWORK).unwrap();
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()
    });
    assert_eq!(real.join().unwrap(), "1\n", "it went to the kernel");
    let said = bundle.oci(&["exec", "--apparmor", "unconfined", &id, "true"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_destination_that_is_exchanged_for_a_link_leads_nowhere_outside() {
    need_root!("root_a_destination_that_is_exchanged_for_a_link_leads_nowhere_outside");
    // CVE-2021-30465 and CVE-2024-45310: another container of the same volume swaps a directory of the destination for a link, all the time.
    let mut bundle = Bundle::new("true");
    let volume = bundle.directory.join("volume");
    let outside = bundle.directory.join("outside");
    for directory in [volume.join("place"), outside.clone()] {
        fs::create_dir_all(directory).unwrap();
    }
    // Up more often than anything is deep, and then to a directory of the host.
    symlink(
        format!("{}{}", "../".repeat(24), outside.display().to_string().trim_start_matches('/')),
        volume.join("link"),
    )
    .unwrap();
    let file = bundle.directory.join("file");
    fs::write(&file, "").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"]}));
    mounts.push(json!({"destination": "/volume/place/tmpfs", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/volume/place/a/b/c", "type": "bind", "source": file, "options": ["bind"]}));
    mounts.push(json!({"destination": "/volume/place/d/e", "type": "bind", "source": volume, "options": ["rbind"]}));
    bundle.config["linux"]["maskedPaths"] = json!(["/volume/place/tmpfs"]);
    let is_over = AtomicBool::new(false);
    let codes = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let (one, other) = (volume.join("place"), volume.join("link"));
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let codes: Vec<i32> = (0..40).map(|_| bundle.run().code).collect();
        is_over.store(true, Ordering::Relaxed);
        codes
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made on the host");
    assert!(codes.iter().all(|code| [0, 1].contains(code)), "{codes:?}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_forged_console_gets_no_terminal_mounted_over_it() {
    need_root!("root_a_forged_console_gets_no_terminal_mounted_over_it");
    // CVE-2025-52565: the terminal is bound over what /dev/console or the name of its device leads to.
    let mut bundle = Bundle::new("echo it ran");
    bundle.config["process"]["terminal"] = json!(true);
    let console = bundle.directory.join("console");
    let listener = UnixListener::bind(&console).unwrap();
    // Nobody need come for it: a connection waits in the socket's queue.
    listener.set_nonblocking(true).unwrap();
    let before = bundle.config["mounts"].clone();
    for (forge, words) in [
        ("console", "/dev/console of the container is a link or a directory\n"),
        ("pts/ptmx", "/dev/pts/ptmx of the container is not a terminal multiplexer\n"),
    ] {
        let dev = bundle.directory.join(format!("dev-{}", forge.replace('/', "-")));
        fs::create_dir_all(dev.join("pts")).unwrap();
        let victim = bundle.directory.join("victim");
        fs::write(&victim, "untouched").unwrap();
        bundle.config["mounts"] = before.clone();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        // A tmpfs filled by the image takes the place of the devices' directory.
        for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev") {
            mount["options"] = json!(["tmpcopyup", "mode=755"]);
        }
        if forge == "pts/ptmx" {
            mounts.retain(|mount| mount["destination"] != "/dev/pts");
            fs::write(dev.join(forge), "").unwrap();
        } else {
            symlink("/victim", dev.join(forge)).unwrap();
        }
        let _ = fs::remove_dir_all(bundle.inside("dev"));
        assert!(Command::new("cp").arg("-a").arg(&dev).arg(bundle.inside("dev")).status().unwrap().success());
        fs::write(bundle.inside("victim"), "untouched").unwrap();
        bundle.write();
        let id = bundle.id();
        let said = bundle.oci(&["run", "-d", "--console-socket", console.to_str().unwrap(), &id]);
        assert_eq!((said.code, said.err.as_str()), (1, words));
        assert_eq!(fs::read_to_string(bundle.inside("victim")).unwrap(), "untouched");
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn root_no_capability_is_inherited_from_the_caller() {
    need_root!("root_no_capability_is_inherited_from_the_caller");
    // CVE-2022-24769, CVE-2022-29162 and their kin: with inheritable capabilities, a program whose file names them has them.
    let mut bundle = Bundle::new("grep -E '^Cap(Inh|Amb)' /proc/self/status >/own; exec sleep 1000");
    bundle.write();
    let id = bundle.id();
    let with_all = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps=+kill,+chown,+dac_override", "--ambient-caps=+kill,+chown"]).arg(common::program());
        command.arg("--root").arg(bundle.state_root()).args(arguments).current_dir(&bundle.directory);
        command.stdin(std::process::Stdio::null());
        command
    };
    let all = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|one| one.join("setpriv").exists()));
    let run = |arguments: &[&str]| if all { with_all(arguments) } else { bundle.command(arguments) };
    if !all {
        eprintln!(
            "SKIPPED: root_no_capability_is_inherited_from_the_caller: no setpriv, the caller has nothing to inherit"
        );
    }
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    let out = fs::File::create(bundle.directory.join("out")).unwrap();
    assert!(run(&["run", "-d", &id]).stdout(out).status().unwrap().success());
    let show = ["grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status"];
    for flags in [&[][..], &["--cap", "CAP_CHOWN"], &["--cap", "CAP_CHOWN", "--user", "1000:1000"]] {
        let arguments: Vec<_> =
            ["exec"].into_iter().chain(flags.iter().copied()).chain([id.as_str()]).chain(show).collect();
        let said = run(&arguments).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), none, "{flags:?}");
    }
    assert_eq!(fs::read_to_string(bundle.inside("own")).unwrap(), none);
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_cgroups_cannot_be_written_without_a_namespace_of_them_and_nobody_is_their_release_agent() {
    need_root!("root_cgroups_cannot_be_written_without_a_namespace_of_them_and_nobody_is_their_release_agent");
    // CVE-2023-25809: /sys/fs/cgroup of the host, writable. CVE-2022-0492: a release agent runs as the host's root.
    let script = "cd /sys/fs/cgroup; find . -name release_agent; for place in . */; do test -e $place/cgroup.procs || continue; mkdir $place/made 2>/dev/null && echo made in $place; \
        mount -o remount,bind,rw /sys/fs/cgroup/$place 2>/dev/null; echo 1 2>/dev/null >$place/notify_on_release && echo notify $place; \
        mkdir $place/made 2>/dev/null && test -e $place/made/cgroup.procs && echo made in $place; done; true";
    let script = script.replace("find .", "busybox find .");
    for (has_user, has_cgroup) in [(false, false), (true, false), (true, true)] {
        let mut bundle = Bundle::new(&script);
        // What the container has of rights in the namespaces that it has.
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| has_cgroup || namespace["type"] != "cgroup");
        if has_user {
            namespaces.push(json!({"type": "user"}));
            bundle.open_for_user_namespace();
            let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN"]);
            bundle.config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
        }
        let said = bundle.run();
        assert_eq!((said.code, said.out.as_str()), (0, ""), "user {has_user}, cgroup {has_cgroup}: {said:?}");
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
    // Nor can a hierarchy be mounted anew with what an ordinary container has.
    let mut bundle =
        Bundle::new("mkdir /new; mount -t cgroup -o memory cgroup /new || mount -t cgroup2 cgroup /new; ls /new");
    let said = bundle.run();
    assert_eq!(said.out, "", "{said:?} (unified: {})", is_unified());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_only_a_number_is_a_user_and_none_wraps_around() {
    need_root!("root_only_a_number_is_a_user_and_none_wraps_around");
    // CVE-2026-30892 (another user than the one that was asked for), CVE-2024-40635 (a huge number wraps around to root).
    let mut bundle = Bundle::new("exec sleep 1000");
    // A name that looks like a number, for whoever should look for names.
    fs::write(bundle.inside("etc/passwd"), "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n").unwrap();
    bundle.write();
    let id = bundle.id();
    assert_eq!(bundle.oci(&["run", "-d", &id]).code, 0);
    let show = ["grep", "-E", "^(Uid|Gid)", "/proc/self/status"];
    for (user, uid, gid) in
        [("1000", 1000, 0), ("1000:7", 1000, 7), ("0007:0008", 7, 8), ("4294967294", 4_294_967_294_u32, 0)]
    {
        let arguments: Vec<_> = ["exec", "-u", user, &id].into_iter().chain(show).collect();
        let said = bundle.oci(&arguments);
        let want = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\n");
        assert_eq!(said.out, want, "{user}: {}", said.err);
    }
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "1000:-1",
        "99999999999999999999",
        "1000:4294967296",
        "1000:",
        ":0",
        "0x0",
        " 0",
        "root",
        "1:2:3",
    ] {
        let arguments: Vec<_> = ["exec", "-u", user, &id].into_iter().chain(show).collect();
        let said = bundle.oci(&arguments);
        assert!(said.code != 0 && said.out.is_empty() && !said.err.is_empty(), "{user:?}: {said:?}");
    }
    assert_eq!(bundle.oci(&["delete", "-f", &id]).code, 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_hostile_passwd_file_neither_stops_nor_fills_nor_leads_the_runtime_outside() {
    need_root!("root_a_hostile_passwd_file_neither_stops_nor_fills_nor_leads_the_runtime_outside");
    // CVE-2026-47262 (without bound), CVE-2024-9676 (a FIFO, a link to the host), CVE-2022-4318 (a line break in a home).
    let mut bundle = Bundle::new("echo $HOME");
    let passwd = bundle.inside("etc/passwd");
    let outside = bundle.directory.join("passwd");
    fs::write(&outside, "root:x:0:0::/outside:/bin/sh\n").unwrap();
    type Forge<'a> = &'a dyn Fn();
    let forges: [(&str, Forge<'_>); 6] = [
        ("a FIFO", &|| assert!(Command::new(busybox()).arg("mkfifo").arg(&passwd).status().unwrap().success())),
        ("a file of a terabyte", &|| fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap()),
        ("a link to the host", &|| symlink(&outside, &passwd).unwrap()),
        ("a link up to the host", &|| symlink(format!("{}{}", "../".repeat(24), outside.display()), &passwd).unwrap()),
        ("a link to a handle", &|| symlink("/proc/self/fd/0", &passwd).unwrap()),
        ("a directory", &|| fs::create_dir(&passwd).unwrap()),
    ];
    for (what, forge) in forges {
        forge();
        let started = Instant::now();
        let said = bundle.run();
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "/\n", ""), "{what}");
        assert!(started.elapsed() < Duration::from_secs(5), "{what}");
        let kind = fs::symlink_metadata(&passwd).unwrap().file_type();
        if kind.is_dir() {
            fs::remove_dir(&passwd).unwrap()
        } else {
            fs::remove_file(&passwd).unwrap()
        }
        assert!(kind.is_dir() || kind.is_symlink() || kind.is_fifo() || kind.is_file());
    }
    fs::write(&passwd, "root:x:0:0::/a\rLD_PRELOAD=x:/bin/sh\n").unwrap();
    assert_eq!(bundle.run().out, "/\n");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_hooks_have_nothing_of_the_containers_environment_or_directory() {
    need_root!("root_hooks_have_nothing_of_the_containers_environment_or_directory");
    // CVE-2025-23266: LD_PRELOAD of the image reached a hook that runs on the host.
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "EVIL=1"]);
    bundle.config["process"]["cwd"] = json!("/etc");
    let seen = bundle.directory.join("seen");
    fs::create_dir(&seen).unwrap();
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o777)).unwrap();
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    for kind in kinds {
        let script = format!("{{ {0} env; pwd; }} >{1}/{kind}", busybox().display(), seen.display());
        bundle.config["hooks"][kind] = json!([{"path": busybox(), "args": ["sh", "-c", script], "env": ["OF=hook"]}]);
    }
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for kind in kinds {
        let text = fs::read_to_string(seen.join(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(text.contains("OF=hook") && !text.contains("LD_PRELOAD") && !text.contains("EVIL"), "{kind}: {text}");
        assert!(!text.contains("rootfs"), "{kind}: {text}");
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
