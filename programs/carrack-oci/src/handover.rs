//! What a caller gets besides output: the pid file, the terminal and the pidfd over unix sockets.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use carrack_sys::fd_passing;
use carrack_sys::rustix::net::SendFlags;

/// Writes the pid, decimal and without a newline, aside and then in place, so that nobody reads half of it.
pub fn write_pid_file(path: &Path, pid: i32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    let aside = path.with_file_name(aside);
    // The directory may be somebody else's: a link put in this place is not followed. What a writer that died left may be replaced.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create_new(&aside)?.write_all(pid.to_string().as_bytes())?;
    fs::rename(aside, path)
}

/// Sends a handle with a name to whoever listens on the socket.
pub fn send_handle(socket: &Path, name: &str, handle: impl AsFd) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    fd_passing::send(&stream, name.as_bytes(), &[handle.as_fd()], SendFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_the_pid_alone_and_nothing_is_left_beside_it() {
        let directory = std::env::temp_dir().join(format!("carrack-pid-file-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        write_pid_file(&directory.join("x.pid"), 123).unwrap();
        assert_eq!(fs::read_to_string(directory.join("x.pid")).unwrap(), "123");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_the_pid_file_or_of_the_one_beside_it_is_replaced_and_not_followed() {
        let directory = std::env::temp_dir().join(format!("carrack-pid-link-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let victim = directory.join("victim");
        fs::write(&victim, "keep").unwrap();
        for name in ["x.pid", ".x.pid"] {
            std::os::unix::fs::symlink(&victim, directory.join(name)).unwrap();
        }
        write_pid_file(&directory.join("x.pid"), 123).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "keep");
        assert!(fs::symlink_metadata(directory.join("x.pid")).unwrap().is_file());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(directory).unwrap();
    }
}
