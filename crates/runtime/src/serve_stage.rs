//! The other end of [`crate::spawn_stage`]: what `carrack-oci stage` does.
//!
//! The new process is the stage's child until the stage ends, and then its caller's, which is a subreaper. So a process that fails is
//! waited for here: a zombie left in a container's pid namespace would keep its first process from ending.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use carrack_sys::clone::ChildOf;
use carrack_words::{Kind, ProcessId};

use crate::create::{CreateOptions, StartMode, TerminalUse, begin_create};
use crate::describe::describe;
use crate::exec::begin_exec;
use crate::inside::root::Leave;
use crate::stage::{SOCKET_NUMBER, StageReply, StageRequest, receive_message, send_message};

/// Serves one request on handle 3, and answers. The program should end afterwards, with this code.
pub fn serve_stage() -> u8 {
    let socket = match carrack_sys::inherited::take(SOCKET_NUMBER) {
        Ok(Some(handle)) => UnixStream::from(handle),
        // Nobody to tell but whoever started us by hand.
        Ok(None) | Err(_) => {
            eprintln!("carrack-oci stage: handle {SOCKET_NUMBER} is not open: only a monitor starts a stage");
            return 1;
        }
    };
    let reply = match receive_message::<StageRequest>(&socket) {
        Ok((request, _)) => serve(request, &socket),
        Err(error) => refuse(&socket, Kind::Invalid, describe(&error)),
    };
    u8::from(reply.is_err())
}

fn refuse(socket: &UnixStream, kind: Kind, message: String) -> std::io::Result<()> {
    send_message(socket, &StageReply::Error { kind, message }, &[])
}

fn tell(socket: &UnixStream, reply: &StageReply, pidfd: &OwnedFd, console: Option<&OwnedFd>) -> std::io::Result<()> {
    let handles: Vec<_> = [Some(pidfd), console].into_iter().flatten().map(AsFd::as_fd).collect();
    send_message(socket, reply, &handles)
}

fn created(process: ProcessId, warnings: Vec<String>) -> StageReply {
    StageReply::Created { process, warnings }
}

fn serve(request: StageRequest, socket: &UnixStream) -> std::io::Result<()> {
    match request {
        StageRequest::Create(request) => {
            let options = CreateOptions {
                child_of: ChildOf::Caller,
                start: StartMode::Wait,
                leave: Leave::Pivot,
                terminal: TerminalUse::Either,
            };
            let made = begin_create(&request, options).and_then(|mut pending| {
                let console = pending.console.take();
                let reply = created(pending.process, std::mem::take(&mut pending.warnings));
                Ok((reply, console, pending.finish(|| ())?.pidfd))
            });
            match made {
                Ok((reply, console, pidfd)) => tell(socket, &reply, &pidfd, console.as_ref()),
                Err(error) => refuse(socket, error.kind(), describe(&error)),
            }
        }
        StageRequest::Exec(request) => {
            let made = begin_exec(&request, ChildOf::Caller).and_then(|mut pending| {
                let console = pending.console.take();
                let reply = created(pending.process, std::mem::take(&mut pending.warnings));
                Ok((reply, console, pending.finish(|| ())?))
            });
            match made {
                Ok((reply, console, pidfd)) => tell(socket, &reply, &pidfd, console.as_ref()),
                Err(error) => refuse(socket, error.kind(), describe(&error)),
            }
        }
    }
}
