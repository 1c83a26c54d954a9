//! Images and their filesystem: `Image` and `FilesystemUsage`.

use std::path::Path;

use carrack_cri_proto::v1;
use carrack_words::Timestamp;

/// The image. `user` is the `User` of its configuration.
pub(crate) fn image(image: &carrack_image::Image) -> v1::Image {
    let (uid, username) = user(&image.run_defaults().user);
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.iter().map(ToString::to_string).collect(),
        repo_digests: image.repo_digests.iter().map(ToString::to_string).collect(),
        // Callers reject an image without a size; an image of nothing but a configuration has one byte at least.
        size: image.size_bytes().max(1),
        uid: uid.map(|value| v1::Int64Value { value }),
        username,
        spec: None,
        // There is no pause image, and nobody can pin another one yet.
        pinned: false,
    }
}

/// Number or name, exactly one of them, from an image's `user[:group]`; none means root.
///
/// Hostile input: a number which is out of range stays text, which no caller takes for a harmless user (CVE-2024-40635).
fn user(text: &str) -> (Option<i64>, String) {
    let user = text.split_once(':').map_or(text, |(user, _)| user);
    if user.is_empty() {
        return (Some(0), String::new());
    }
    let digits = user.bytes().all(|byte| byte.is_ascii_digit());
    match user.parse::<i32>() {
        Ok(uid) if digits => (Some(uid.into()), String::new()),
        _ => (None, user.to_owned()),
    }
}

/// What images or containers take up of the filesystem that `root` is on.
pub(crate) fn filesystem_usage(root: &Path, used_bytes: u64, inodes: u64, now: Timestamp) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: now.nanoseconds(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: root.display().to_string() }),
        used_bytes: Some(v1::UInt64Value { value: used_bytes }),
        inodes_used: Some(v1::UInt64Value { value: inodes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name_and_never_wraps() {
        for (text, uid, name) in [
            ("", Some(0), ""),
            (":5", Some(0), ""),
            ("0", Some(0), ""),
            ("1000:1000", Some(1000), ""),
            ("2147483647", Some(2_147_483_647), ""),
            ("2147483648", None, "2147483648"),
            ("4294967296", None, "4294967296"),
            ("18446744073709551616", None, "18446744073709551616"),
            ("-1", None, "-1"),
            ("+0", None, "+0"),
            ("www-data:www-data", None, "www-data"),
        ] {
            assert_eq!(user(text), (uid, name.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn usage_names_its_filesystem() {
        let wanted = v1::FilesystemUsage {
            timestamp: 5,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/var/lib/carrack".into() }),
            used_bytes: Some(v1::UInt64Value { value: 10 }),
            inodes_used: Some(v1::UInt64Value { value: 2 }),
        };
        assert_eq!(filesystem_usage(Path::new("/var/lib/carrack"), 10, 2, Timestamp::from_nanoseconds(5)), wanted);
    }
}
