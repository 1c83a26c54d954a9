//! One netlink socket: requests go out in one datagram, answers come in until the last request is acknowledged.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use carrack_sys::netlink::ask_for_reasons;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use carrack_sys::rustix::net::sockopt::{Timeout, set_socket_timeout};
use carrack_sys::rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::NetlinkError;
use crate::message::{Batch, HEADER, attributes, text, u32_ne};

/// The kernel answers while it takes the request; this bounds the wait if it does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's answers to dumps are up to 32 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// `NLMSG_ERROR`: an acknowledgement or a refusal.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_CAPPED`: the refused request is not in the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: the answer has attributes.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the reason in words.
const ATTR_MSG: u16 = 1;

/// A message of the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message type.
    pub kind: u16,
    /// What follows `struct nlmsghdr`.
    pub body: Vec<u8>,
}

impl Reply {
    /// The attributes after a protocol header of `header` bytes.
    pub fn attributes(&self, header: usize) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(self.body.get(header..).unwrap_or(&[]))
    }
}

/// Sockets that wait for their next use.
///
/// Closing a `NETLINK_NETFILTER` socket waits until the kernel has let go of all rules and elements that anybody removed just before
/// (`nft_rcv_nl_event`): 10 ms after each removal. So these sockets are kept for as long as the network is.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Socket>>,
}

impl Pool {
    /// A socket that nobody else uses meanwhile. Bounded by the number of threads that use the network at once.
    pub fn netfilter(&self) -> Result<Pooled<'_>, NetlinkError> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let socket = match waiting {
            Some(socket) => socket,
            None => Socket::netfilter()?,
        };
        Ok(Pooled { socket: Some(socket), pool: self })
    }
}

/// A socket that goes back to its pool.
#[derive(Debug)]
pub struct Pooled<'a> {
    socket: Option<Socket>,
    pool: &'a Pool,
}

impl Deref for Pooled<'_> {
    type Target = Socket;
    fn deref(&self) -> &Socket {
        self.socket.as_ref().expect("a pooled socket is there until it is dropped")
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        // One that failed may hold answers that nobody waits for any more.
        if let Some(socket) = self.socket.take().filter(|socket| !socket.failed.load(Ordering::Relaxed)) {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        }
    }
}

/// A netlink socket; it belongs to the network namespace in which it was opened, wherever its user is.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// Whether an exchange ended before its last answer.
    failed: AtomicBool,
}

impl Socket {
    /// Links, addresses, routes (`NETLINK_ROUTE`) of the calling thread's network namespace.
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open(None)
    }

    /// One that another process has opened, and its handle; it still belongs to the namespace in which that was.
    pub fn from_handle(fd: OwnedFd) -> Self {
        Self { fd, failed: AtomicBool::new(false) }
    }

    /// The handle, to give to another process.
    pub fn into_handle(self) -> OwnedFd {
        self.fd
    }

    /// nftables and connection tracking (`NETLINK_NETFILTER`) of the calling thread's network namespace. Slow to close: see [`Pool`].
    fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(Some(NETFILTER))
    }

    fn open(protocol: Option<carrack_sys::rustix::net::Protocol>) -> Result<Self, NetlinkError> {
        let step = |doing| move |source: io::Error| NetlinkError::Socket { doing, source };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|errno| step("open")(errno.into()))?;
        ask_for_reasons(&fd).map_err(step("set options of"))?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| step("set the deadline of")(errno.into()))?;
        Ok(Self::from_handle(fd))
    }

    /// Sends all requests and gives the answers, or the first refusal. After a refusal the kernel goes on with later requests of
    /// rtnetlink, and undoes all of an nftables batch.
    pub fn exchange(&self, batch: &Batch) -> Result<Vec<Reply>, NetlinkError> {
        let mut replies = Vec::new();
        let exchanged = self.exchange_all(batch, |reply| replies.push(reply));
        let mut refusals = exchanged.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        if refusals.is_empty() { Ok(replies) } else { Err(refusals.remove(0)) }
    }

    /// Like [`Self::exchange`], with every refusal.
    fn exchange_all(&self, batch: &Batch, mut on_reply: impl FnMut(Reply)) -> Result<Vec<NetlinkError>, NetlinkError> {
        let (bytes, last) = batch.sealed();
        let failed = |doing| move |errno: Errno| NetlinkError::Socket { doing, source: errno.into() };
        sendto(&self.fd, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(failed("write to"))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut refusals = Vec::new();
        loop {
            let length = match recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed("read from")(errno)),
            };
            for message in messages(&buffer[..length]) {
                match message.kind {
                    ERROR => refusals.extend(message.refusal(batch)),
                    DONE => {}
                    kind => on_reply(Reply { kind, body: message.body.to_vec() }),
                }
                if message.sequence == last && matches!(message.kind, ERROR | DONE) {
                    return Ok(refusals);
                }
            }
        }
    }
}

struct Incoming<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Incoming<'_> {
    /// The refusal, unless this is an acknowledgement.
    fn refusal(&self, batch: &Batch) -> Option<NetlinkError> {
        let request = batch.name(self.sequence);
        let Some(code) = u32_ne(self.body) else { return Some(NetlinkError::Malformed { request }) };
        let errno = (code as i32).wrapping_neg();
        if errno == 0 {
            return None;
        }
        let reason = if self.flags & ACK_TLVS != 0 {
            // `struct nlmsgerr`: the number, the header of the request, and the request unless it is capped.
            let echoed =
                if self.flags & CAPPED != 0 { HEADER } else { u32_ne(self.body.get(4..)?).unwrap_or(0) as usize };
            let tail = self.body.get(4 + echoed.next_multiple_of(4)..).unwrap_or(&[]);
            attributes(tail).find(|(kind, _)| *kind == ATTR_MSG).map(|(_, value)| text(value))
        } else {
            None
        };
        Some(NetlinkError::Refused { request, reason, source: io::Error::from_raw_os_error(errno) })
    }
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32_ne(rest)? as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        Some(Incoming { kind: half(4), flags: half(6), sequence: u32_ne(&message[8..])?, body: &message[HEADER..] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_come_with_its_refusal() {
        let mut batch = Batch::new();
        batch.request("create link", 16, 0, &[], |_| {});
        let mut body = (-17i32).to_ne_bytes().to_vec();
        body.extend([0; 16]);
        body.extend([9, 0, 1, 0, b't', b'a', b'k', b'n', 0]);
        let message = Incoming { kind: ERROR, flags: CAPPED | ACK_TLVS, sequence: 1, body: &body };
        let refusal = message.refusal(&batch).unwrap();
        assert_eq!(refusal.to_string(), "create link (takn)");
        assert!(refusal.is_present());
    }

    #[test]
    fn a_cut_answer_ends_the_row() {
        let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(messages(&bytes).count(), 1);
        bytes.extend([200, 0, 0, 0, 2, 0]);
        assert_eq!(messages(&bytes).count(), 1);
        assert_eq!(messages(&[3, 0, 0, 0]).count(), 0);
    }
}
