//! What ends a command, and the exit code that goes with it.

use std::io;

use carrack_engine::EngineError;
use carrack_words::Kind;

use crate::parse::ValueError;

/// Carrack itself failed, as docker and the shells number it.
pub const FAILED: u8 = 125;
/// The program cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;

const SIGPIPE: u8 = 13;

/// The exit code of a program that a signal ended, as shells number it.
pub const fn signalled(signal: u8) -> u8 {
    128 + signal
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A container's program could not be started.
    #[error("{source}")]
    Start {
        /// Why.
        source: EngineError,
    },
    /// A flag's value is wrong.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The command line as a whole is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong and what to do.
        message: String,
    },
    /// The system failed.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Its results could not be printed.
    #[error("write standard output")]
    Output {
        /// Why.
        source: io::Error,
    },
    /// Nobody reads its results any more, as when `head` has seen enough.
    #[error("nobody reads the output")]
    OutputClosed,
    /// A signal told it to end.
    #[error("interrupted")]
    Interrupted {
        /// Its number.
        signal: u8,
    },
    /// Some of several objects failed, each told already.
    #[error("not all of them")]
    Several,
}

impl Failure {
    /// A failure of the system while doing `action`.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::Io { action: action.into(), source }
    }

    /// Standard output that cannot be written.
    pub fn output(source: io::Error) -> Failure {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Output { source },
        }
    }

    /// Whether nothing is to be said: it was told already, or nobody listens.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::Interrupted { .. } | Failure::Several | Failure::OutputClosed)
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into() }
    }

    /// A program that could not be started.
    pub fn start(source: EngineError) -> Failure {
        Failure::Start { source }
    }

    /// The exit code, where a signal ended it the signal's. Commands that pass a program's code on use 125 to 127; others end with 1.
    pub fn exit_code(&self, passes_code_on: bool) -> u8 {
        match self {
            Failure::Interrupted { signal } => signalled(*signal),
            Failure::OutputClosed => signalled(SIGPIPE),
            _ if !passes_code_on => 1,
            Failure::Start { source } => match source.program_failure() {
                Some(Kind::NotFound) => NOT_FOUND,
                Some(_) => NOT_EXECUTABLE,
                None => FAILED,
            },
            _ => FAILED,
        }
    }

    /// The whole chain of causes in one line, without repeating what a level above has said.
    pub fn chain(&self) -> String {
        match self {
            Failure::Engine(error) => told(error),
            other => chain(other),
        }
    }
}

/// What the engine says, and where to look for what is not there.
pub fn told(error: &EngineError) -> String {
    let text = chain(error);
    match error {
        EngineError::NotFound { what: "container", .. } => format!("{text} (`carrack ps -a` lists all)"),
        EngineError::Image(image) if image.kind() == Kind::NotFound => format!("{text} (`carrack images` lists all)"),
        _ => text,
    }
}

/// An error and its causes, joined by colons; a cause that the text already ends with is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
