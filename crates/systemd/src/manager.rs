//! What is asked of systemd's manager (org.freedesktop.systemd1(5)).

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carrack_sys::rustix::process::geteuid;

use crate::connection::Connection;
use crate::error::SystemdError;
use crate::message::Call;
use crate::value::Value;

/// A property of a unit: its name, and its value.
pub type Property = (String, Value);

/// An open connection to systemd.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    version: Option<u32>,
}

/// Systemd's own socket, for root: there is no daemon between, so less to wait for and nothing to subscribe to. `systemctl` uses it too.
const PRIVATE: &str = "/run/systemd/private";
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// How long one request may take, with its job; runc waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
const BUS: &str = "org.freedesktop.DBus";
const BUS_OBJECT: &str = "/org/freedesktop/DBus";
const JOB_ENDS: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Whether this host was booted with systemd (sd_booted(3)).
pub fn is_running() -> bool {
    fs::symlink_metadata("/run/systemd/system").is_ok_and(|metadata| metadata.is_dir())
}

/// The two ways to systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Straight to it.
    Private,
    /// Over the system's bus.
    Bus,
}

impl Manager {
    /// Connects to systemd: over its own socket, or where that is closed to us over the system's bus.
    pub fn connect() -> Result<Self, SystemdError> {
        if !is_running() {
            return Err(SystemdError::NotRunning);
        }
        match Self::connect_at(Path::new(PRIVATE), Way::Private) {
            Err(SystemdError::Connect { .. } | SystemdError::Authenticate { .. }) => Self::connect_to_bus(),
            other => other,
        }
    }

    /// Connects over the system's bus.
    pub fn connect_to_bus() -> Result<Self, SystemdError> {
        if is_running() { Self::connect_at(Path::new(SYSTEM_BUS), Way::Bus) } else { Err(SystemdError::NotRunning) }
    }

    fn connect_at(path: &Path, way: Way) -> Result<Self, SystemdError> {
        let failed = |source| SystemdError::Connect { path: PathBuf::from(path), source };
        let stream = UnixStream::connect(path).map_err(failed)?;
        Self::over(stream, way, Instant::now() + PATIENCE)
    }

    fn over(stream: UnixStream, way: Way, deadline: Instant) -> Result<Self, SystemdError> {
        let connection = Connection::open(stream, geteuid().as_raw(), deadline)?;
        let mut manager = Self { connection, version: None };
        if way == Way::Bus {
            let on_bus =
                |method, arguments| Call { destination: BUS, path: BUS_OBJECT, interface: BUS, method, arguments };
            manager.connection.call("enter the system bus", on_bus("Hello", &[]))?;
            let wanted = [Value::text(JOB_ENDS)];
            manager.connection.call("listen to the system bus", on_bus("AddMatch", &wanted))?;
            manager.call("listen to systemd", "Subscribe", &[])?;
        }
        Ok(manager)
    }

    /// Starts a scope with these properties, and waits until it is there.
    ///
    /// A unit of the name that failed and was left is cleared away; one that lives is [`SystemdError::Refused`] of kind `AlreadyExists`.
    pub fn start_scope(&mut self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        self.begin();
        let doing = format!("start unit {unit}");
        let no_others = Value::Array { of: "(sa(sv))".into(), values: vec![] };
        let arguments = [Value::text(unit), Value::text("replace"), list_of(properties), no_others];
        let answer = match self.call(&doing, "StartTransientUnit", &arguments) {
            Err(SystemdError::Refused { name, .. }) if name.ends_with(".UnitExists") => {
                // What this says does not matter: the second answer tells whether it helped.
                let _ = self.reset_failed(unit);
                self.call(&doing, "StartTransientUnit", &arguments)?
            }
            other => other?,
        };
        match self.await_job(&doing, answer)? {
            result if result == "done" => Ok(()),
            result => {
                let _ = self.reset_failed(unit);
                Err(SystemdError::Job { unit: unit.to_owned(), result })
            }
        }
    }

    /// Changes properties of a unit that lives, until it ends.
    pub fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        self.begin();
        let is_for_this_life = Value::Bool(true);
        let arguments = [Value::text(unit), is_for_this_life, list_of(properties)];
        self.call(&format!("set properties of unit {unit}"), "SetUnitProperties", &arguments).map(drop)
    }

    /// Stops a unit, waits until it is gone, and lets systemd forget how it ended. One that is gone already is fine.
    pub fn stop(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.begin();
        let doing = format!("stop unit {unit}");
        match self.call(&doing, "StopUnit", &[Value::text(unit), Value::text("replace")]) {
            Err(SystemdError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => return Ok(()),
            answer => {
                // However the job ends: whether the group is gone is for the caller to see.
                self.await_job(&doing, answer?)?;
            }
        }
        match self.reset_failed(unit) {
            // It did not fail, so it is gone.
            Err(SystemdError::Refused { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The number of systemd's release. It is asked once.
    pub fn version(&mut self) -> Result<u32, SystemdError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        self.begin();
        let doing = "ask systemd for its version";
        let arguments = [Value::text(MANAGER), Value::text("Version")];
        let call = Call {
            destination: SYSTEMD,
            path: OBJECT,
            interface: "org.freedesktop.DBus.Properties",
            method: "Get",
            arguments: &arguments,
        };
        let answer = self.connection.call(doing, call)?;
        let version = match answer.as_slice() {
            [Value::Variant(value)] => match value.as_ref() {
                Value::Text(text) => release(text),
                _ => None,
            },
            _ => None,
        };
        self.version = version;
        version.ok_or_else(|| unexpected(doing, &answer))
    }

    fn reset_failed(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.call(&format!("reset unit {unit}"), "ResetFailedUnit", &[Value::text(unit)]).map(drop)
    }

    fn begin(&mut self) {
        self.connection.set_deadline(Instant::now() + PATIENCE);
    }

    fn call(&mut self, doing: &str, method: &str, arguments: &[Value]) -> Result<Vec<Value>, SystemdError> {
        let call = Call { destination: SYSTEMD, path: OBJECT, interface: MANAGER, method, arguments };
        self.connection.call(doing, call)
    }

    /// `answer` names a job.
    fn await_job(&mut self, doing: &str, answer: Vec<Value>) -> Result<String, SystemdError> {
        match answer.as_slice() {
            [Value::Path(job)] => self.connection.job_result(doing, job),
            other => Err(unexpected(doing, other)),
        }
    }
}

/// An answer that makes no sense.
fn unexpected(doing: &str, answer: &[Value]) -> SystemdError {
    let types: String = answer.iter().map(Value::signature).collect();
    SystemdError::Malformed { doing: doing.to_owned(), what: format!("values of the types {types:?}") }
}

/// `a(sv)`
fn list_of(properties: &[Property]) -> Value {
    let one = |(name, value): &Property| {
        Value::Tuple(vec![Value::text(name.clone()), Value::Variant(Box::new(value.clone()))])
    };
    Value::Array { of: "(sv)".into(), values: properties.iter().map(one).collect() }
}

/// Of `252.38-1~deb12u1` or `v245.4-1.fc32`.
fn release(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches('v');
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread::{self, JoinHandle};

    use carrack_words::Kind;

    use super::*;
    use crate::message::tests::{error, reply, signal};
    use crate::message::{Message, PREFIX_BYTES, rest_bytes};

    /// What the other end does with one request: its number is the argument, and what is to be sent the result.
    type Answer = Box<dyn Fn(u32) -> Vec<u8> + Send>;

    /// The other end of a connection: lets us in, answers each request in turn, and tells which methods were called.
    fn systemd(answers: Vec<Answer>) -> (UnixStream, JoinHandle<Vec<String>>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let serve = move || {
            let mut methods = Vec::new();
            let mut line = vec![0; format!("\0AUTH EXTERNAL {}\r\n", "30".repeat(geteuid().to_string().len())).len()];
            theirs.read_exact(&mut line).expect("a greeting");
            assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "{line:?}");
            theirs.write_all(b"OK 0123456789abcdef\r\n").expect("an answer");
            theirs.read_exact(&mut [0; 7]).expect("BEGIN");
            for answer in answers {
                let mut bytes = vec![0; PREFIX_BYTES];
                if theirs.read_exact(&mut bytes).is_err() {
                    break;
                }
                let serial = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
                let rest = rest_bytes(bytes.as_slice().try_into().expect("sixteen")).expect("a prefix");
                bytes.resize(PREFIX_BYTES + rest, 0);
                theirs.read_exact(&mut bytes[PREFIX_BYTES..]).expect("a message");
                methods.push(Message::parse(&bytes).expect("a message").member);
                theirs.write_all(&answer(serial)).expect("an answer");
            }
            methods
        };
        (ours, thread::spawn(serve))
    }

    fn job(number: u32) -> Value {
        Value::Path(format!("/org/freedesktop/systemd1/job/{number}"))
    }

    fn removed(number: u32, result: &str) -> Vec<u8> {
        signal("JobRemoved", &[Value::Uint32(number), job(number), Value::text("x.scope"), Value::text(result)])
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_scope_is_there_when_its_job_is_done_whichever_comes_first_and_whatever_comes_between() {
        let (stream, server) = systemd(vec![
            Box::new(|serial| {
                [removed(6, "failed"), signal("UnitNew", &[]), reply(serial, &[job(7)]), removed(7, "done")].concat()
            }),
            Box::new(|serial| [removed(8, "done"), reply(serial, &[job(8)])].concat()),
        ]);
        let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
        manager.start_scope("x.scope", &[("Delegate".into(), Value::Bool(true))]).expect("done");
        manager.start_scope("y.scope", &[]).expect("done before the answer");
        drop(manager);
        assert_eq!(server.join().expect("no fault"), ["StartTransientUnit", "StartTransientUnit"]);
    }

    #[test]
    fn the_bus_is_entered_before_anything_is_asked() {
        let ok = || -> Answer { Box::new(|serial| reply(serial, &[])) };
        let version = |serial| reply(serial, &[Value::Variant(Box::new(Value::text("252.38-1~deb12u1")))]);
        let (stream, server) = systemd(vec![ok(), ok(), ok(), Box::new(version)]);
        let mut manager = Manager::over(stream, Way::Bus, soon()).expect("let in");
        assert_eq!((manager.version().expect("a number"), manager.version().expect("the same")), (252, 252));
        drop(manager);
        assert_eq!(server.join().expect("no fault"), ["Hello", "AddMatch", "Subscribe", "Get"]);
    }

    #[test]
    fn a_unit_that_failed_before_is_cleared_away_once() {
        let exists = || -> Answer {
            Box::new(|serial| error(serial, "org.freedesktop.systemd1.UnitExists", "Unit x.scope already exists."))
        };
        let (stream, server) = systemd(vec![exists(), Box::new(|serial| reply(serial, &[])), exists()]);
        let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
        let fault = manager.start_scope("x.scope", &[]).expect_err("it is there");
        assert_eq!(fault.to_string(), "start unit x.scope: Unit x.scope already exists.");
        assert_eq!(fault.kind(), Kind::AlreadyExists);
        drop(manager);
        let methods = server.join().expect("no fault");
        assert_eq!(methods, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    }

    #[test]
    fn a_unit_that_is_gone_is_stopped() {
        let gone = |serial| error(serial, "org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
        let (stream, _server) = systemd(vec![
            Box::new(gone),
            Box::new(|serial| [reply(serial, &[job(1)]), removed(1, "canceled")].concat()),
            Box::new(gone),
        ]);
        let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
        manager.stop("x.scope").expect("gone");
        manager.stop("x.scope").expect("gone after the job");
    }

    #[test]
    fn a_job_that_fails_is_told_with_its_unit() {
        let (stream, _server) = systemd(vec![
            Box::new(|serial| [reply(serial, &[job(1)]), removed(1, "failed")].concat()),
            Box::new(|serial| reply(serial, &[])),
        ]);
        let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
        let fault = manager.start_scope("x.scope", &[]).expect_err("it failed");
        assert_eq!(fault.to_string(), "error creating systemd unit `x.scope`: got `failed`");
    }

    #[test]
    fn hostile_answers_end_in_a_sentence() {
        let huge = vec![b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0];
        let cases: Vec<(Answer, &str)> = vec![
            (
                Box::new(move |_| huge.clone()),
                "set properties of unit u: systemd answered with a message of 2147483647 bytes",
            ),
            (
                Box::new(|_| b"Bxxxyyyyzzzzaaaa".to_vec()),
                "set properties of unit u: systemd answered with a message in another byte order",
            ),
            (Box::new(|_| Vec::new()), "talk to systemd"),
            (Box::new(|serial| reply(serial, &[])[..20].to_vec()), "talk to systemd"),
            (
                Box::new(|serial| error(serial, "org.freedesktop.DBus.Error.InvalidArgs", "Cannot set property X")),
                "set properties of unit u: Cannot set property X",
            ),
        ];
        for (answer, want) in cases {
            let (stream, server) = systemd(vec![answer]);
            let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
            let fault = manager.set_properties("u", &[]).expect_err(want);
            assert_eq!(fault.to_string(), want);
            server.join().expect("no fault");
        }
        let (stream, _server) = systemd(vec![Box::new(|serial| reply(serial, &[Value::Byte(1)]))]);
        let mut manager = Manager::over(stream, Way::Private, soon()).expect("let in");
        let fault = manager.start_scope("u", &[]).expect_err("no job");
        assert_eq!(fault.to_string(), "start unit u: systemd answered with values of the types \"y\"");
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_beyond_the_deadline() {
        let (ours, _theirs) = UnixStream::pair().expect("a socket pair");
        let fault = Manager::over(ours, Way::Private, Instant::now() + Duration::from_millis(30)).expect_err("silence");
        assert_eq!(
            (fault.to_string().as_str(), fault.kind()),
            ("authenticate: systemd did not answer in time", Kind::Deadline)
        );
    }

    #[test]
    fn who_is_not_let_in_hears_why() {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        theirs.write_all(b"REJECTED ANONYMOUS\r\n").expect("room");
        let fault = Manager::over(ours, Way::Private, soon()).expect_err("rejected");
        assert_eq!(fault.to_string(), "systemd refuses us: \"REJECTED ANONYMOUS\"");
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        theirs.write_all(&[b'x'; 600]).expect("room");
        assert_eq!(Manager::over(ours, Way::Private, soon()).expect_err("an endless line").kind(), Kind::Denied);
    }

    #[test]
    fn releases_are_read_from_what_distributions_call_them() {
        for (text, want) in [("252.38-1~deb12u1", Some(252)), ("v245.4-1.fc32", Some(245)), ("9", Some(9)), ("x", None)]
        {
            assert_eq!(release(text), want);
        }
    }
}
