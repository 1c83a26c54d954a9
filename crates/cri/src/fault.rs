//! How failures leave through this edge: one table from error class to gRPC code, and the whole chain as one message.

use carrack_engine::EngineError;
use carrack_words::Kind;
use tonic::{Code, Status};

use crate::request::RequestError;

/// Messages travel in a header, which peers bound.
const MAX_MESSAGE_BYTES: usize = 4096;

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It was refused before the engine saw it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The images could not be asked or changed.
    #[error(transparent)]
    Image(#[from] carrack_image::ImageError),
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] carrack_image::PullError),
    /// The credentials for a pull cannot be used.
    #[error(transparent)]
    Credentials(#[from] carrack_registry::CredentialError),
    /// The name of an image is not one.
    #[error("image.image")]
    ImageName(#[from] carrack_words::ImageRefError),
    /// The registry could not be reached. The kubelet looks for the message's first word.
    #[error("RegistryUnavailable: pull {image}")]
    RegistryUnavailable {
        /// The image.
        image: String,
        /// Why.
        source: carrack_image::PullError,
    },
    /// The thread that worked on the call panicked, or the program is ending.
    #[error("the call was given up")]
    GivenUp {
        /// What the runtime said.
        #[from]
        source: tokio::task::JoinError,
    },
    /// A view could not be written as JSON.
    #[error("write the verbose status of {id}")]
    Verbose {
        /// Of what.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Fault {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Request(error) => error.kind(),
            Fault::Engine(error) => error.kind(),
            Fault::Image(error) => error.kind(),
            Fault::Pull(error) | Fault::RegistryUnavailable { source: error, .. } => error.kind(),
            Fault::Credentials(_) => Kind::Invalid,
            Fault::ImageName(_) => Kind::Invalid,
            Fault::GivenUp { .. } | Fault::Verbose { .. } => Kind::Internal,
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        Status::new(code(fault.kind()), bounded(chain(&fault)))
    }
}

/// The one table of this edge.
pub(crate) fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Invalid => Code::InvalidArgument,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Busy => Code::Aborted,
        Kind::Denied => Code::PermissionDenied,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::DataLoss => Code::DataLoss,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Internal => Code::Internal,
    }
}

/// An error and its causes in one line. A cause that a wrapper repeats is told once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_code_of_its_own() {
        let kinds = [
            Kind::NotFound,
            Kind::AlreadyExists,
            Kind::Invalid,
            Kind::Precondition,
            Kind::Busy,
            Kind::Denied,
            Kind::Unsupported,
            Kind::Unavailable,
            Kind::Deadline,
            Kind::DataLoss,
            Kind::Exhausted,
            Kind::Internal,
        ];
        let codes: std::collections::BTreeSet<i32> = kinds.map(|kind| code(kind) as i32).into_iter().collect();
        assert_eq!(codes.len(), kinds.len());
        assert!(!codes.contains(&(Code::Ok as i32)));
    }

    #[test]
    fn the_message_holds_the_whole_chain_once_and_is_bounded() {
        let refused = Fault::from(RequestError::Invalid { field: "config".into(), reason: "is missing".into() });
        let status = Status::from(refused);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "config: is missing"));

        let inner = std::io::Error::other("disk on fire");
        let outer = Fault::Engine(EngineError::Io { action: "read", path: "/x".into(), source: inner });
        assert_eq!(chain(&outer), "read /x: disk on fire");

        let long = RequestError::Invalid { field: "é".repeat(5000), reason: "is long".into() };
        assert!(Status::from(Fault::from(long)).message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
    }
}
