//! Netlink as far as the engine needs it: messages, attributes, and one request-and-answer exchange.
//!
//! Own code rather than a crate, since the same writer then serves rtnetlink and nftables, for which there is no crate that
//! is free of system libraries and GPL; and since several requests have to go in one datagram: the kernel works through it in
//! order within one system call, which is what makes attaching a pod cheap. Source: `linux/netlink.h`, netlink(7).

#![forbid(unsafe_code)]

mod message;
mod socket;

pub use message::{Batch, Message, attributes, text, u16_be, u32_be, u32_ne};
pub use socket::{Pool, Reply, Socket};

use std::io;

use carrack_words::Kind;

/// The kernel refused a netlink request, or its answer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("{request}{}", reason.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Which request of the batch.
        request: &'static str,
        /// The kernel's own words, if it has any.
        reason: Option<String>,
        /// The cause.
        source: io::Error,
    },
    /// The socket failed.
    #[error("{doing} netlink socket")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// An answer has not the form that the kernel's headers give it.
    #[error("the kernel's answer to \"{request}\" is malformed")]
    Malformed {
        /// Which request.
        request: &'static str,
    },
}

impl NetlinkError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        match self.errno() {
            Some(error_number::EPERM | error_number::EACCES) => Kind::Denied,
            Some(error_number::EOPNOTSUPP | error_number::EPROTONOSUPPORT | error_number::EAFNOSUPPORT) => {
                Kind::Unsupported
            }
            Some(
                error_number::ENOMEM
                | error_number::ENOBUFS
                | error_number::ENOSPC
                | error_number::EMFILE
                | error_number::ENFILE,
            ) => Kind::Exhausted,
            _ => Kind::Internal,
        }
    }

    /// The kernel's error number, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => source.raw_os_error(),
            Self::Malformed { .. } => None,
        }
    }

    /// Whether the named object is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(error_number::ENOENT | error_number::ENODEV))
    }

    /// Whether a number that was asked for is taken.
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(error_number::EBUSY)
    }

    /// Whether the named object is there already.
    pub fn is_present(&self) -> bool {
        self.errno() == Some(error_number::EEXIST)
    }
}

/// Error numbers (`asm-generic/errno-base.h`, `asm-generic/errno.h`), as patterns.
mod error_number {
    use carrack_sys::rustix::io::Errno;
    pub const EPERM: i32 = Errno::PERM.raw_os_error();
    pub const EACCES: i32 = Errno::ACCESS.raw_os_error();
    pub const ENOENT: i32 = Errno::NOENT.raw_os_error();
    pub const ENODEV: i32 = Errno::NODEV.raw_os_error();
    pub const EBUSY: i32 = Errno::BUSY.raw_os_error();
    pub const EEXIST: i32 = Errno::EXIST.raw_os_error();
    pub const EOPNOTSUPP: i32 = Errno::OPNOTSUPP.raw_os_error();
    pub const EPROTONOSUPPORT: i32 = Errno::PROTONOSUPPORT.raw_os_error();
    pub const EAFNOSUPPORT: i32 = Errno::AFNOSUPPORT.raw_os_error();
    pub const ENOMEM: i32 = Errno::NOMEM.raw_os_error();
    pub const ENOBUFS: i32 = Errno::NOBUFS.raw_os_error();
    pub const ENOSPC: i32 = Errno::NOSPC.raw_os_error();
    pub const EMFILE: i32 = Errno::MFILE.raw_os_error();
    pub const ENFILE: i32 = Errno::NFILE.raw_os_error();
}
