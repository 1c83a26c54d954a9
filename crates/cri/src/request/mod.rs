//! Translates what the interface asks into what the engine is asked.
//!
//! Source: cri-api 0.36.3 and the kubelet's use of it. Everything below is pure: a message and facts of the host in, a value of
//! [`carrack_engine::request`] out, or a [`RequestError`] that names the field. What the engine cannot do is refused here by
//! name, so that no field is dropped in silence; the few fields without a meaning for this engine say so where they are read.

mod container;
mod device;
mod dns;
mod filter;
mod mount;
mod namespace;
mod pod;
mod port;
mod resources;
mod security;
mod sysctl;
mod user;

use carrack_words::Kind;

pub(crate) use container::{container_request, exec_request, exec_timeout, image_name, stop_timeout};
pub(crate) use filter::{ContainerQuery, PodQuery, container_query, pod_query};
pub(crate) use pod::pod_request;

/// A request is refused before the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The value can never work.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field from the request message.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The interface has it, this engine does not.
    #[error("{field}: {reason}")]
    Unsupported {
        /// Path of the field from the request message.
        field: String,
        /// What is not supported.
        reason: String,
    },
    /// A volume from an image. The kubelet looks for the message's first word.
    #[error("ImageVolumeMountFailed: {field}: volumes from images are not supported yet")]
    ImageVolume {
        /// Path of the field from the request message.
        field: String,
    },
    /// The kernel cannot make a mount tree read-only. The kubelet looks for the message's first word.
    #[error("RROUnsupported: {field}: recursive read-only mounts need Linux 5.12")]
    RecursiveReadOnly {
        /// Path of the field from the request message.
        field: String,
    },
}

impl RequestError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::Unsupported { .. } | Self::ImageVolume { .. } | Self::RecursiveReadOnly { .. } => Kind::Unsupported,
        }
    }
}

/// What the host can do, as far as a translation depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// `mount_setattr` with `AT_RECURSIVE` (Linux 5.12).
    pub recursive_readonly: bool,
}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> RequestError {
    RequestError::Invalid { field: field.into(), reason: reason.into() }
}

fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> RequestError {
    RequestError::Unsupported { field: field.into(), reason: reason.into() }
}

/// The message in `value`, which must be there.
pub(crate) fn required<T>(value: Option<T>, field: &str) -> Result<T, RequestError> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

/// The text, which must not be empty.
pub(crate) fn non_empty<'a>(value: &'a str, field: &str) -> Result<&'a str, RequestError> {
    if value.is_empty() { Err(invalid(field, "is empty")) } else { Ok(value) }
}

/// `None` for the empty text, which is how the interface leaves a text away.
fn given(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

/// The enum's value; a number from a newer interface is refused, since its meaning is unknown.
fn known<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E, RequestError> {
    E::try_from(value).map_err(|_| invalid(field, format!("unknown value {value}")))
}

/// An absolute path without `..`.
fn absolute_path(text: &str, field: &str) -> Result<std::path::PathBuf, RequestError> {
    let path = std::path::Path::new(non_empty(text, field)?);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    match (path.is_absolute(), climbs, text.contains('\0')) {
        (true, false, false) => Ok(path.to_owned()),
        (false, ..) => Err(invalid(field, format!("{text:?} is not an absolute path"))),
        (_, true, _) => Err(invalid(field, format!("{text:?} contains .."))),
        (_, _, true) => Err(invalid(field, "contains a zero byte")),
    }
}

/// Text that ends up in arguments, environment or a file's line: a zero byte would cut it short.
fn without_zero(text: &str, field: impl Fn() -> String) -> Result<(), RequestError> {
    if text.contains('\0') { Err(invalid(field(), "contains a zero byte")) } else { Ok(()) }
}
