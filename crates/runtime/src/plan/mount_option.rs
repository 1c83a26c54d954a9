//! Mount options: their names, and what each one asks for (config.md, "Linux mount options").

use carrack_sys::mount_attr::{Depth, MountAttr};

/// What the options of one mount ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// `bind` or `rbind`.
    pub bind: Option<Depth>,
    /// Attributes of the mount itself.
    pub attr: MountAttr,
    /// Attributes of the mount and all below it (Linux 5.12).
    pub recursive: MountAttr,
    /// Changes of propagation as `MS_*` bits, in order.
    pub propagation: Vec<(u64, Depth)>,
    /// Flags of the file system, in the names of fsconfig(2).
    pub flags: Vec<&'static str>,
    /// Everything else: data of the file system.
    pub data: Vec<String>,
    /// Map ids, of this mount or all below it too.
    pub idmap: Option<Depth>,
    /// Fill a tmpfs with what lies below it.
    pub copy_up: bool,
}

const UNBINDABLE: u64 = 1 << 17;
const PRIVATE: u64 = 1 << 18;
/// The mount gets events of its master, and sends none.
pub const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

enum Meaning {
    Set(u64),
    Clear(u64),
    /// One of the exclusive access-time modes.
    AccessTime(u64),
    Propagation(u64),
    Flag(&'static str),
    NoFlag(&'static str),
    Bind(Depth),
    IdMap(Depth),
    CopyUp,
    /// Accepted, and means what happens anyway.
    Nothing,
}

/// Options that name an attribute; with `r` in front they are recursive.
fn attribute(name: &str) -> Option<Meaning> {
    Some(match name {
        "ro" => Meaning::Set(MountAttr::RDONLY),
        "rw" => Meaning::Clear(MountAttr::RDONLY),
        "nosuid" => Meaning::Set(MountAttr::NOSUID),
        "suid" => Meaning::Clear(MountAttr::NOSUID),
        "nodev" => Meaning::Set(MountAttr::NODEV),
        "dev" => Meaning::Clear(MountAttr::NODEV),
        "noexec" => Meaning::Set(MountAttr::NOEXEC),
        "exec" => Meaning::Clear(MountAttr::NOEXEC),
        "nodiratime" => Meaning::Set(MountAttr::NODIRATIME),
        "diratime" => Meaning::Clear(MountAttr::NODIRATIME),
        "nosymfollow" => Meaning::Set(MountAttr::NOSYMFOLLOW),
        "symfollow" => Meaning::Clear(MountAttr::NOSYMFOLLOW),
        "noatime" => Meaning::AccessTime(MountAttr::NOATIME),
        "strictatime" | "norelatime" => Meaning::AccessTime(MountAttr::STRICTATIME),
        // Relative access times are what Linux does when nothing is said.
        "relatime" | "atime" | "nostrictatime" => Meaning::AccessTime(0),
        _ => return None,
    })
}

fn meaning(name: &str) -> Option<Meaning> {
    Some(match name {
        "bind" => Meaning::Bind(Depth::One),
        "rbind" => Meaning::Bind(Depth::All),
        "private" | "rprivate" => Meaning::Propagation(PRIVATE),
        "slave" | "rslave" => Meaning::Propagation(SLAVE),
        "shared" | "rshared" => Meaning::Propagation(SHARED),
        "unbindable" | "runbindable" => Meaning::Propagation(UNBINDABLE),
        "sync" => Meaning::Flag("sync"),
        "async" => Meaning::NoFlag("sync"),
        "dirsync" => Meaning::Flag("dirsync"),
        "mand" => Meaning::Flag("mand"),
        "nomand" => Meaning::NoFlag("mand"),
        "lazytime" => Meaning::Flag("lazytime"),
        "nolazytime" => Meaning::NoFlag("lazytime"),
        "iversion" => Meaning::Flag("iversion"),
        "noiversion" => Meaning::NoFlag("iversion"),
        "acl" => Meaning::Flag("acl"),
        "noacl" => Meaning::NoFlag("acl"),
        "defaults" | "silent" | "loud" | "remount" => Meaning::Nothing,
        "idmap" => Meaning::IdMap(Depth::One),
        "ridmap" => Meaning::IdMap(Depth::All),
        "tmpcopyup" => Meaning::CopyUp,
        _ => return None,
    })
}

/// The names of all options with a meaning of their own, for `features`.
pub fn names() -> Vec<&'static str> {
    const ALL: &[&str] = &[
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "idmap",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "remount",
        "rexec",
        "ridmap",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "ro",
        "rprivate",
        "rrelatime",
        "rro",
        "rrw",
        "rshared",
        "rslave",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
    ];
    ALL.to_vec()
}

fn apply(attr: &mut MountAttr, meaning: &Meaning) {
    match meaning {
        Meaning::Set(bit) => (attr.set, attr.clear) = (attr.set | bit, attr.clear & !bit),
        Meaning::Clear(bit) => (attr.set, attr.clear) = (attr.set & !bit, attr.clear | bit),
        // The kernel wants the whole mask cleared to change the mode.
        Meaning::AccessTime(mode) => {
            (attr.set, attr.clear) = (attr.set & !MountAttr::ATIME | mode, attr.clear | MountAttr::ATIME)
        }
        Meaning::Propagation(_)
        | Meaning::Flag(_)
        | Meaning::NoFlag(_)
        | Meaning::Bind(_)
        | Meaning::IdMap(_)
        | Meaning::CopyUp
        | Meaning::Nothing => {}
    }
}

impl MountOptions {
    /// Reads a list of options; the last word on a subject counts.
    pub fn parse<T: AsRef<str>>(options: &[T]) -> Self {
        let mut all = Self::default();
        for option in options.iter().map(AsRef::as_ref) {
            if let Some(meaning) = attribute(option) {
                apply(&mut all.attr, &meaning);
                continue;
            }
            match meaning(option) {
                Some(Meaning::Bind(depth)) => all.bind = Some(depth),
                Some(Meaning::Propagation(bit)) => {
                    let depth = if option.starts_with('r') { Depth::All } else { Depth::One };
                    all.propagation.push((bit, depth));
                }
                Some(Meaning::Flag(name)) => all.flags.push(name),
                Some(Meaning::NoFlag(name)) => all.flags.retain(|flag| *flag != name),
                Some(Meaning::IdMap(depth)) => all.idmap = Some(depth),
                Some(Meaning::CopyUp) => all.copy_up = true,
                Some(Meaning::Nothing | Meaning::Set(_) | Meaning::Clear(_) | Meaning::AccessTime(_)) => {}
                None => match option.strip_prefix('r').and_then(attribute) {
                    Some(meaning) => apply(&mut all.recursive, &meaning),
                    None if option.is_empty() => {}
                    None => all.data.push(option.to_owned()),
                },
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let got = MountOptions::parse(&[
            "rbind",
            "nosuid",
            "noatime",
            "rro",
            "rslave",
            "private",
            "sync",
            "mode=755",
            "size=64k",
            "ridmap",
            "tmpcopyup",
            "defaults",
            "",
        ]);
        let want = MountOptions {
            bind: Some(Depth::All),
            attr: MountAttr { set: MountAttr::NOSUID | MountAttr::NOATIME, clear: MountAttr::ATIME, propagation: 0 },
            recursive: MountAttr { set: MountAttr::RDONLY, ..MountAttr::default() },
            propagation: vec![(SLAVE, Depth::All), (PRIVATE, Depth::One)],
            flags: vec!["sync"],
            data: vec!["mode=755".into(), "size=64k".into()],
            idmap: Some(Depth::All),
            copy_up: true,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn the_last_word_counts() {
        for (options, set, clear) in [
            (&["ro", "rw"][..], 0, MountAttr::RDONLY),
            (&["rw", "ro"], MountAttr::RDONLY, 0),
            (&["noatime", "relatime"], 0, MountAttr::ATIME),
            (&["nodev", "dev", "nodev"], MountAttr::NODEV, 0),
        ] {
            let got = MountOptions::parse(options);
            assert_eq!((got.attr.set, got.attr.clear), (set, clear), "{options:?}");
        }
        assert!(MountOptions::parse(&["sync", "async"]).flags.is_empty());
    }

    #[test]
    fn every_name_that_features_tells_has_a_meaning() {
        for name in names() {
            assert_eq!(MountOptions::parse(&[name]).data, Vec::<String>::new(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost(options in proptest::collection::vec("[a-z]{1,12}(=[a-z0-9]{0,4})?", 0..12)) {
            let parsed = MountOptions::parse(&options);
            for option in &options {
                let is_known = attribute(option).is_some() || meaning(option).is_some()
                    || option.strip_prefix('r').and_then(attribute).is_some();
                proptest::prop_assert_eq!(parsed.data.contains(option), !is_known);
            }
        }
    }
}
