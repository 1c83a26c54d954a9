//! `carrack attach` and `carrack start`, and the foreground of `carrack run`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use carrack_engine::view::ContainerView;
use carrack_engine::{AttachReader, AttachRequest, AttachWriter, ClientError, Engine};
use carrack_sys::signal_queue::SignalQueue;
use carrack_words::ContainerId;

use crate::args::{Attach, Start};
use crate::containers::each;
use crate::failure::{Failure, signalled};
use crate::print::remark;
use crate::session::{self, Ended};
use crate::terminal;

const SIGHUP: u8 = 1;

/// `carrack start`.
pub fn start(engine: &Arc<Engine>, flags: &Start) -> Result<u8, Failure> {
    if !flags.attach && !flags.interactive {
        return each(&flags.containers, |name| {
            engine.start_container(&engine.find_shown_container(name)?)?;
            Ok(name.to_owned())
        });
    }
    let [name] = &flags.containers[..] else {
        return Err(Failure::usage("only one container can be started and attached at once"));
    };
    let id = engine.find_shown_container(name)?;
    let (attach, foreground) = wanted(&engine.container(&id)?, flags.interactive)?;
    let signals = session::queue_signals().map_err(Failure::io("receive signals"))?;
    let streams = engine.start_attached(&id, attach).map_err(Failure::start)?;
    stay(engine, &id, streams, signals, foreground)
}

/// `carrack attach`.
pub fn attach(engine: &Arc<Engine>, flags: &Attach) -> Result<u8, Failure> {
    let id = engine.find_shown_container(&flags.container)?;
    let container = engine.container(&id)?;
    let (attach, foreground) = wanted(&container, !flags.no_stdin)?;
    let signals = session::queue_signals().map_err(Failure::io("receive signals"))?;
    let streams = engine.attach(&id, attach)?;
    if container.request.terminal
        && let Some((rows, columns)) = terminal::size(io::stdin())
    {
        // What is on the screen is drawn anew only for a new size; ours follows.
        engine.resize(&id, rows.saturating_add(1), columns)?;
    }
    stay(engine, &id, streams, signals, foreground)
}

/// The streams to ask for: standard input only of a container that reads it.
fn wanted(container: &ContainerView, stdin: bool) -> Result<(AttachRequest, Foreground), Failure> {
    let stdin = stdin && container.request.stdin;
    if stdin && container.request.terminal && !terminal::is_terminal(io::stdin()) {
        return Err(Failure::usage(format!(
            "the input is not a terminal, and container {} has one: run this in a terminal",
            container.name
        )));
    }
    let removes = container.request.auto_remove;
    let attach = AttachRequest { stdin, stdout: true, stderr: true, lossless: true };
    Ok((attach, Foreground { terminal: container.request.terminal, stdin, removes }))
}

/// What is known of a container before it runs; it may be gone soon after.
#[derive(Debug, Clone, Copy)]
pub struct Foreground {
    /// It has a terminal.
    pub terminal: bool,
    /// It reads standard input, and is given ours.
    pub stdin: bool,
    /// It is removed after its exit.
    pub removes: bool,
}

/// Stays with a container until it exits or the caller leaves; the exit code.
pub fn stay(
    engine: &Arc<Engine>,
    id: &ContainerId,
    streams: (AttachReader, AttachWriter),
    signals: SignalQueue,
    foreground: Foreground,
) -> Result<u8, Failure> {
    let short = id.short();
    let ended = session::run(engine, id, streams, signals, foreground.terminal, foreground.stdin);
    match ended.map_err(Failure::io("attach"))? {
        Ended::Exited(record) => {
            if foreground.removes {
                engine.wait_removed(id)?;
            }
            Ok(record.exit.code() as u8)
        }
        Ended::Detached => {
            remark!("\ndetached: container {short} runs on; `carrack attach {short}` comes back to it");
            Ok(0)
        }
        Ended::GivenUp(signal) => {
            remark!("carrack: container {short} does not end, so it is left alone; `carrack kill {short}` ends it");
            Ok(signalled(signal as u8))
        }
        Ended::HungUp => {
            // What the terminal's programs get; one that does not care goes on. It may have ended already.
            let _ = engine.signal_container(id, SIGHUP);
            Ok(signalled(SIGHUP))
        }
        Ended::OutputFailed(error) => {
            // As in a shell's pipeline: who cannot write any more ends.
            engine.stop_container(id, Some(Duration::ZERO))?;
            Err(Failure::output(error))
        }
        Ended::Lost(ClientError::Ended) => Err(Failure::usage(format!(
            "the monitor of container {short} was killed, so its output and its exit are lost; `carrack stop {short}` ends what runs of it"
        ))),
        Ended::Lost(error) => Err(Failure::Engine(error.into())),
    }
}
