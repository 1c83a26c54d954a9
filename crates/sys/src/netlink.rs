//! Options of netlink sockets (netlink(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Asks the kernel to say in words what it refuses, and not to send the refused request back (`NETLINK_EXT_ACK`, Linux 4.12;
/// `NETLINK_CAP_ACK`, Linux 4.3).
pub fn ask_for_reasons(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        // SAFETY: setsockopt(2) reads `size` bytes from `on`, which lives across the call.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
