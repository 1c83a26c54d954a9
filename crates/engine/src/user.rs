//! Who a container's process runs as: a request or an image's `User`, resolved in the image's own passwd and group files.
//!
//! The files are Class 2 input: they are read through a root, as regular files only, up to a bound (CVE-2023-25153,
//! CVE-2026-47262). A number stays a number: one that does not fit is an error, never looked up as a name or wrapped
//! (CVE-2024-40635, CVE-2026-46680). Source: OCI image specification, config.md, `User`; CRI `supplemental_groups_policy`.

use std::io::Read;
use std::path::Path;

use carrack_rooted::Root;
use carrack_sys::rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::request::UserRequest;
use crate::view::UserView;

/// The most that is read of a passwd or group file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A user cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such name in the image.
    #[error("user {name:?} is not in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such group in the image.
    #[error("group {name:?} is not in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A number beyond what the kernel has.
    #[error("user or group id {text:?} is out of range: want 0 to 2147483647")]
    OutOfRange {
        /// What was given.
        text: String,
    },
    /// The file is not one that we read.
    #[error("{path} of the image is not a regular file of at most {limit_bytes} bytes")]
    Unfit {
        /// The path in the image.
        path: &'static str,
        /// The bound.
        limit_bytes: u64,
    },
    /// The file cannot be read.
    #[error("read {path} of the image")]
    Read {
        /// The path in the image.
        path: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The passwd and group files of an image; empty where the image has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub ids: UserView,
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// Reads both files below `root`.
    pub fn load(root: &Root) -> Result<Self, UserError> {
        Ok(Self { passwd: read_bounded(root, "/etc/passwd")?, group: read_bounded(root, "/etc/group")? })
    }

    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            Some(PasswdEntry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields[..] else { return None };
            Some(GroupEntry { name, gid: gid.parse().ok()?, members })
        })
    }

    /// Resolves what the request says, or else `image_user`.
    pub fn resolve(&self, request: &UserRequest, image_user: &str) -> Result<Resolved, UserError> {
        let text = request.user.as_deref().unwrap_or(image_user);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let named = self.user(if user.is_empty() { "0" } else { user })?;
        let (uid, entry) = named;
        let named_group = group.filter(|group| !group.is_empty()).map(|group| self.group(group)).transpose()?;
        let explicit_group = request.group.or(named_group);
        let gid = explicit_group.or(entry.as_ref().map(|entry| entry.gid)).unwrap_or(0);
        let mut groups = Vec::new();
        // A group given as `user:group` stands alone; the image's memberships belong to a user given without one.
        if !request.strict_groups
            && named_group.is_none()
            && let Some(entry) = &entry
        {
            let is_member = |group: &GroupEntry<'_>| group.members.split(',').any(|member| member == entry.name);
            groups.extend(self.groups().filter(is_member).map(|group| group.gid));
        }
        groups.extend(&request.supplemental_groups);
        groups.sort_unstable();
        groups.dedup();
        let home = entry.map_or("/", |entry| entry.home);
        // A newline would start a line of its own wherever HOME is written (CVE-2022-4318).
        let home = if home.starts_with('/') && !home.contains(['\n', '\0']) { home } else { "/" };
        Ok(Resolved { ids: UserView { uid, gid, groups }, home: home.to_owned() })
    }

    fn user(&self, text: &str) -> Result<(u32, Option<PasswdEntry<'_>>), UserError> {
        match number(text)? {
            Some(uid) => Ok((uid, self.users().find(|entry| entry.uid == uid))),
            None => match self.users().find(|entry| entry.name == text) {
                Some(entry) => Ok((entry.uid, Some(entry))),
                None => Err(UserError::UnknownUser { name: text.to_owned() }),
            },
        }
    }

    fn group(&self, text: &str) -> Result<u32, UserError> {
        match number(text)? {
            Some(gid) => Ok(gid),
            None => self
                .groups()
                .find(|entry| entry.name == text)
                .map(|entry| entry.gid)
                .ok_or_else(|| UserError::UnknownGroup { name: text.to_owned() }),
        }
    }
}

/// The number that `text` is, or `None` if it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(number @ 0..=0x7fff_ffff) => Ok(Some(number as u32)),
        _ => Err(UserError::OutOfRange { text: text.to_owned() }),
    }
}

fn read_bounded(root: &Root, path: &'static str) -> Result<String, UserError> {
    let read = |source| UserError::Read { path, source };
    let unfit = || UserError::Unfit { path, limit_bytes: MAX_FILE_BYTES };
    // Looked at before it is opened: opening a device node of the image would call the host's driver.
    let place = match root.resolve(Path::new(path)) {
        Ok(place) => place,
        Err(error) if error.is_not_found() => return Ok(String::new()),
        Err(error) => return Err(read(std::io::Error::other(error))),
    };
    let facts = fstat(&place).map_err(|errno| read(errno.into()))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(unfit());
    }
    let file = open(carrack_rooted::path_of(&place), OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| read(errno.into()))?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unfit());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd:
                "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:,,,:/srv\nevil:x:44:44::/a\u{0}b:\nbroken\n12:x:9:9::/:\n"
                    .into(),
            group: "root:x:0:root\nbin:x:1:root,web\nwww:x:34:\nlogs:x:70:web\n".into(),
        }
    }

    fn resolve(user: &str) -> (u32, u32, Vec<u32>, String) {
        let resolved = accounts().resolve(&UserRequest::default(), user).unwrap();
        (resolved.ids.uid, resolved.ids.gid, resolved.ids.groups, resolved.home)
    }

    #[test]
    fn a_user_without_a_group_brings_its_memberships_and_one_with_a_group_does_not() {
        assert_eq!(resolve(""), (0, 0, vec![0, 1], "/root".into()));
        assert_eq!(resolve("web"), (33, 34, vec![1, 70], "/srv".into()));
        assert_eq!(resolve("33"), (33, 34, vec![1, 70], "/srv".into()));
        assert_eq!(resolve("web:bin"), (33, 1, vec![], "/srv".into()));
        assert_eq!(resolve("1234"), (1234, 0, vec![], "/".into()));
        assert_eq!(resolve("1234:70"), (1234, 70, vec![], "/".into()));
        assert_eq!(resolve("evil").3, "/");
    }

    #[test]
    fn a_number_is_never_looked_up_as_a_name_nor_wrapped() {
        assert_eq!(resolve("12").0, 12);
        for huge in ["4294967296", "2147483648", "-1", "99999999999999999999999", "0:4294967295"] {
            let error = accounts().resolve(&UserRequest::default(), huge).unwrap_err();
            assert!(matches!(error, UserError::OutOfRange { .. }), "{huge}: {error}");
        }
    }

    #[test]
    fn what_the_image_does_not_know_is_named() {
        let error = |user| accounts().resolve(&UserRequest::default(), user).unwrap_err().to_string();
        assert_eq!(error("nobody"), "user \"nobody\" is not in the image's /etc/passwd");
        assert_eq!(error("web:staff"), "group \"staff\" is not in the image's /etc/group");
    }

    #[test]
    fn strict_takes_only_the_listed_groups_and_merge_takes_both() {
        let mut request = UserRequest { supplemental_groups: vec![5, 1], ..UserRequest::default() };
        assert_eq!(accounts().resolve(&request, "web").unwrap().ids.groups, [1, 5, 70]);
        request.strict_groups = true;
        assert_eq!(accounts().resolve(&request, "web").unwrap().ids.groups, [1, 5]);
    }
}
