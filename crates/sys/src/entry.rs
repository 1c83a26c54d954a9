//! Where a small program begins, in place of the standard library's own beginning.
//!
//! Before it calls `main`, the standard library asks for the guard page of the stack, out of `/proc/self/maps`, and installs
//! handlers that put an overflow into words. For a program that lives for some milliseconds that is a good part of its
//! life, and what it needs of the C library (sscanf and all its numbers) is a twentieth of its size. An overflow still ends at
//! the guard page, by a SIGSEGV without words. What else the standard library does is done here too: the three standard handles
//! are open, and a write to a closed pipe is an error and no signal.

use std::ffi::{CStr, OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A character of C.
pub type Char = libc::c_char;

/// The argument vector that `main` was called with. The standard library would know it from its own beginning; without that, from glibc only.
static ARGUMENTS: AtomicPtr<*const Char> = AtomicPtr::new(ptr::null_mut());

/// Makes a function without arguments, which returns the exit code, the program's beginning. The crate must be `no_main` outside of tests.
#[macro_export]
macro_rules! entry {
    ($begin:path) => {
        // SAFETY: a `no_main` program has no other `main`, and this is the one that the C library's start calls.
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, arguments: *const *const $crate::entry::Char) -> i32 {
            $crate::entry::run($begin, arguments)
        }
        #[cfg(test)]
        const _: fn() -> u8 = $begin;
    };
}

/// Runs the program; the answer is the exit code. `arguments` are those of `main`.
pub fn run(begin: fn() -> u8, arguments: *const *const Char) -> i32 {
    ARGUMENTS.store(arguments.cast_mut(), Ordering::Relaxed);
    open_standard_handles();
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let code = begin();
    // What cannot be written any more is nobody's loss: whoever minds flushes before.
    let _ = std::io::stdout().flush();
    code.into()
}

/// The program's arguments, its name first.
pub fn arguments() -> Vec<OsString> {
    let first = ARGUMENTS.load(Ordering::Relaxed);
    if first.is_null() {
        return std::env::args_os().collect();
    }
    let mut arguments = vec![];
    // SAFETY: the pointer is that of `main`: an array of strings that ends with a null pointer, all there until the process ends (C11 5.1.2.2.1).
    // Nobody writes to it.
    unsafe {
        for index in 0.. {
            let one = *first.add(index);
            if one.is_null() {
                break;
            }
            arguments.push(OsStr::from_bytes(CStr::from_ptr(one).to_bytes()).to_owned());
        }
    }
    arguments
}

/// A handle that were opened as number 0, 1 or 2 would be read or written by whoever means the standard streams.
fn open_standard_handles() {
    let mut handles = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll(2) reads and writes the three elements, which live for the call; open(2) reads a static string. The handle that open
    // returns is the lowest that is free, the closed one, and meant to stay open.
    unsafe {
        if libc::poll(handles.as_mut_ptr(), 3, 0) < 0 {
            libc::_exit(1);
        }
        for handle in handles {
            let is_closed = handle.revents & libc::POLLNVAL != 0;
            if is_closed && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != handle.fd {
                libc::_exit(1);
            }
        }
    }
}
