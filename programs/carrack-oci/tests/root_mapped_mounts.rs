//! Bind mounts whose files look as if they were somebody else's.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::PathBuf;
use std::process::Command;

use common::{Bundle, HostMount};
use serde_json::{Value, json};

/// A directory of the host with files of root and of user 5 and group 6, where everybody may write, and a mount below it.
fn source(bundle: &Bundle) -> (PathBuf, HostMount) {
    let source = bundle.directory.join("source");
    let below = bundle.directory.join("below");
    for directory in [&source, &below] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    }
    for (name, uid, gid) in [("source/roots", 0, 0), ("source/users", 5, 6), ("below/deep", 5, 6)] {
        let path = bundle.directory.join(name);
        fs::write(&path, "").unwrap();
        lchown(&path, Some(uid), Some(gid)).unwrap();
    }
    fs::create_dir(source.join("sub")).unwrap();
    let mount = HostMount::bind(&below, &source.join("sub"));
    (source, mount)
}

fn range(inside: u32, outside: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": 1000}])
}

fn owner(path: PathBuf) -> (u32, u32) {
    let metadata = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (metadata.uid(), metadata.gid())
}

const SHOW: &str = "cd /data; stat -c '%u:%g %n' roots users sub/deep";

#[test]
fn root_a_mount_has_the_ids_that_its_own_mappings_give() {
    need_root!("root_a_mount_has_the_ids_that_its_own_mappings_give");
    let mut bundle = Bundle::new(&format!("{SHOW}; touch made; stat -c '%u:%g' made"));
    let (source, mount) = source(&bundle);
    bundle.config["process"]["user"] = json!({"uid": 70_007, "gid": 80_008});
    for (options, deep) in
        [(&["rbind", "idmap"][..], "5:6"), (&["rbind", "ridmap"], "70005:80006"), (&["rbind"], "5:6")]
    {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/data");
        bundle.config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "type": "bind", "source": source, "options": options,
            "uidMappings": range(0, 70_000), "gidMappings": range(0, 80_000)
        }));
        let said = bundle.run();
        let want = format!("70000:80000 roots\n70005:80006 users\n{deep} sub/deep\n70007:80008\n");
        assert_eq!((said.out, said.err.as_str()), (want, ""), "{options:?}");
        assert_eq!(owner(source.join("made")), (7, 8), "what is made belongs to the id of the file system");
        fs::remove_file(source.join("made")).unwrap();
    }
    // Who has no id on the file system makes nothing there.
    bundle.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    let said = bundle.run();
    assert!(said.err.contains("Value too large"), "{said:?}");
    assert_eq!(owner(source.join("roots")), (0, 0));
    drop(mount);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_in_a_user_namespace_a_mount_has_the_ids_of_the_container_or_its_own() {
    need_root!("root_in_a_user_namespace_a_mount_has_the_ids_of_the_container_or_its_own");
    let mut bundle = Bundle::new(&format!("{SHOW}; touch made; stat -c '%u:%g' made"));
    bundle.open_for_user_namespace();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let (source, mount) = source(&bundle);
    let mount_of =
        |options: &[&str]| json!({"destination": "/data", "type": "bind", "source": source, "options": options});
    let nobody = "65534:65534";
    let mut own = mount_of(&["rbind", "ridmap"]);
    (own["uidMappings"], own["gidMappings"]) = (range(0, 100_020), range(0, 100_030));
    for (mount, roots, users, deep, made, on_disk) in [
        (mount_of(&["rbind", "idmap"]), "0:0", "5:6", nobody, "0:0", Some((0, 0))),
        (mount_of(&["rbind", "ridmap"]), "0:0", "5:6", "5:6", "0:0", Some((0, 0))),
        (mount_of(&["rbind"]), nobody, nobody, nobody, "0:0", Some((100_000, 100_000))),
        (own, "20:30", "25:36", "25:36", "", None),
    ] {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/data");
        bundle.config["mounts"].as_array_mut().unwrap().push(mount.clone());
        let said = bundle.run();
        let want = format!("{roots} roots\n{users} users\n{deep} sub/deep\n");
        assert!(said.out.starts_with(&want) && said.out.trim_end().ends_with(made), "{mount}: {said:?}");
        match on_disk {
            Some(ids) => {
                assert_eq!(owner(source.join("made")), ids, "{mount}");
                fs::remove_file(source.join("made")).unwrap();
            }
            None => assert!(said.err.contains("Value too large"), "{said:?}"),
        }
    }
    drop(mount);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_a_joined_user_namespace_gives_its_ids_to_a_mount() {
    need_root!("root_a_joined_user_namespace_gives_its_ids_to_a_mount");
    let mut owner = Bundle::new("exec sleep 1000");
    owner.open_for_user_namespace();
    owner.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    owner.write();
    let id = owner.id();
    let said = owner.oci(&["run", "-d", &id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let mut guest = Bundle::new(SHOW);
    guest.open_for_user_namespace();
    let (source, mount) = source(&guest);
    let path = format!("/proc/{}/ns/user", owner.state(&id)["pid"]);
    guest.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user", "path": path}));
    guest.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ridmap"]}));
    let said = guest.run();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("0:0 roots\n5:6 users\n5:6 sub/deep\n", ""));
    assert_eq!(owner.oci(&["delete", "-f", &id]).code, 0);
    drop(mount);
    assert_eq!(guest.leftovers(), Vec::<String>::new());
    assert_eq!(owner.leftovers(), Vec::<String>::new());
}

#[test]
fn root_mapped_ids_do_not_open_what_the_host_has_locked() {
    need_root!("root_mapped_ids_do_not_open_what_the_host_has_locked");
    let mut bundle = Bundle::new("mount -o remount,bind,rw /data; touch /data/made; umount /data/sub; ls /data/sub");
    bundle.open_for_user_namespace();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let (source, below) = source(&bundle);
    let covered = HostMount::bind(&source, &source);
    let cover = HostMount::bind(&bundle.directory.join("below"), &source.join("sub"));
    let remount = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&source).status().unwrap();
    assert!(remount.success());
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ridmap"]}));
    let said = bundle.run();
    assert_eq!(said.out, "deep\n", "{said:?}");
    for refusal in ["mount: ", "/data/made: Read-only file system", "umount: "] {
        assert!(said.err.contains(refusal), "{said:?}");
    }
    drop((cover, covered, below));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn root_ids_that_cannot_be_mapped_are_refused_by_name() {
    need_root!("root_ids_that_cannot_be_mapped_are_refused_by_name");
    let mut bundle = Bundle::new("true");
    let mount = |source: &str, ids: Value| json!({"destination": "/data", "type": "bind", "source": source, "options": ["bind", "idmap"], "uidMappings": ids, "gidMappings": ids});
    let before = bundle.config["mounts"].clone();
    for (mount, words) in [
        (
            mount("/sys", range(0, 5)),
            "failed to set MOUNT_ATTR_IDMAP on /sys: invalid argument (maybe the filesystem used doesn't support idmap mounts on this kernel?)\n",
        ),
        (
            mount("rootfs", json!([])),
            "mount /data: id-mapped mounts enabled but no mappings provided, and the container has no user namespace\n",
        ),
        (
            mount("rootfs", json!([{"containerID": 0, "hostID": 0, "size": 0}])),
            "write the uid mappings: invalid argument\n",
        ),
    ] {
        bundle.config["mounts"] = before.clone();
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let said = bundle.run();
        assert_eq!((said.code, said.err.as_str()), (1, words));
    }
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
