//! The life of a container, as a pure machine: events in, effects out.
//!
//! It decides when a container is killed, recorded, announced and started again. It does no I/O and reads no clock.

use std::time::Duration;

use carrack_monitor_proto::{ContainerPhase, ContainerState, ExitRecord, RestartPolicy, Signal};
use carrack_words::{ContainerId, Exit, Kind, ProcessId, Timestamp};

use crate::back_off::BackOff;

/// How often a container that does not die of SIGKILL is sent it again: a process may fork between two looks at a cgroup v1.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// The clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For records.
    pub wall: Timestamp,
    /// For deadlines; since any fixed moment.
    pub monotonic: Duration,
}

/// Where a container stands.
///
/// ```text
///            ┌──────────────────started──────────────┐
///            │                                       ▼
///  ──▶ Created ──died──▶ Ending ◀──────died────── Running
///        ▲                 │
///        │                 ├─drained, no restart──▶ Exited ──┐
///        │                 └─drained, restart──▶ BackOff     │
///        └──────────────recreated (due, or by hand)──┴───────┘
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Its first process waits to be started.
    Created {
        /// That process.
        init: ProcessId,
        /// Why its program could not be executed; then its death is awaited.
        failure: Option<Failure>,
    },
    /// Its program runs.
    Running {
        /// Its first process.
        init: ProcessId,
        /// Since when.
        since: Now,
    },
    /// Its first process is dead; what it wrote is still being read.
    Ending {
        /// That process.
        init: ProcessId,
        /// How it ended.
        exit: Exit,
        /// When.
        at: Now,
        /// Since when its program had run, if it had.
        since: Option<Now>,
        /// Why its program could not be executed.
        error: Option<String>,
    },
    /// It ended and will be started again.
    BackOff {
        /// Its last exit.
        last: ExitRecord,
        /// When the restart is due.
        until: Now,
    },
    /// It ended for good.
    Exited {
        /// Its last exit.
        last: ExitRecord,
    },
}

/// A program that could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What shells report for it.
    pub exit: Exit,
    /// Why.
    pub message: String,
}

impl Failure {
    /// The exit that container tools report for a start that failed: 127 for a program that is not there, 126 for one that cannot be
    /// executed, 125 for everything else.
    pub fn new(kind: Kind, message: String) -> Self {
        let code = match kind {
            Kind::NotFound => 127,
            Kind::Denied => 126,
            _ => 125,
        };
        Self { exit: Exit::Code(code), message }
    }
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its program was released and executed.
    Started,
    /// Its program could not be executed.
    StartFailed(Failure),
    /// Its first process was reaped.
    Died {
        /// How it ended.
        exit: Exit,
    },
    /// All it wrote has been read, and no process of it is left.
    Drained {
        /// Whether the kernel killed one of its processes for want of memory.
        oom_killed: bool,
    },
    /// Somebody wants it stopped.
    StopAsked {
        /// The first signal.
        signal: Signal,
        /// The time it may take; zero kills at once.
        timeout: Duration,
    },
    /// Somebody killed it; the signal is sent already.
    KilledByHand,
    /// It was created again.
    Recreated {
        /// Its new first process.
        init: ProcessId,
        /// Who wanted that.
        by: StartedBy,
    },
    /// It could not be created again by the policy.
    RecreateFailed(Failure),
    /// Its policy was replaced.
    PolicyChanged {
        /// The policy from now on.
        policy: RestartPolicy,
    },
    /// Time passed.
    Tick,
}

/// Who started a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// A client. Restarts are counted from here.
    Hand,
    /// The restart policy.
    Policy,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a signal to the first process.
    SignalInit(Signal),
    /// Send SIGKILL to all processes of the container.
    KillAll,
    /// Read what the container wrote to its end, then report [`Event::Drained`].
    Drain,
    /// Write the record, then tell those who wait for it.
    Announce(ExitRecord),
    /// Create the container again and start it.
    Recreate,
}

/// The event does not fit the phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It runs already.
    #[error("container {id} is already running")]
    AlreadyRunning {
        /// The container.
        id: ContainerId,
    },
    /// It does not run.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
}

impl Refused {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Refused::AlreadyRunning { .. } | Refused::NotRunning { .. } => Kind::Precondition,
        }
    }
}

/// How a request to start is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// The first process waits: release it.
    Release,
    /// There is none: create the container again.
    Recreate,
}

/// One container's life.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    id: ContainerId,
    phase: Phase,
    policy: RestartPolicy,
    restarts: u32,
    back_off: BackOff,
    started_by: StartedBy,
    /// Whether somebody asked it to stop since it was started by hand; there is no restart then.
    stopping: bool,
    /// When all of it is killed (again), by the monotonic clock.
    kill_at: Option<Duration>,
}

impl Lifecycle {
    /// The life of a container that was just created.
    pub fn new(id: ContainerId, init: ProcessId, policy: RestartPolicy) -> Self {
        Self {
            id,
            phase: Phase::Created { init, failure: None },
            policy,
            restarts: 0,
            back_off: BackOff::default(),
            started_by: StartedBy::Hand,
            stopping: false,
            kill_at: None,
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Its first process, while that is not known to be dead.
    pub fn init(&self) -> Option<ProcessId> {
        match &self.phase {
            Phase::Created { init, .. } | Phase::Running { init, .. } => Some(*init),
            Phase::Ending { .. } | Phase::BackOff { .. } | Phase::Exited { .. } => None,
        }
    }

    /// Whether it has ended for good.
    pub fn has_exited(&self) -> bool {
        matches!(self.phase, Phase::Exited { .. })
    }

    /// How a request to start it now is carried out.
    pub fn start_mode(&self) -> Result<StartMode, Refused> {
        match &self.phase {
            Phase::Created { failure: None, .. } => Ok(StartMode::Release),
            Phase::BackOff { .. } | Phase::Exited { .. } => Ok(StartMode::Recreate),
            Phase::Running { .. } => Err(Refused::AlreadyRunning { id: self.id.clone() }),
            // Dead already, but not yet recorded.
            Phase::Created { failure: Some(_), .. } | Phase::Ending { .. } => {
                Err(Refused::NotRunning { id: self.id.clone() })
            }
        }
    }

    /// When [`Event::Tick`] is due, by the monotonic clock.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Created { .. } | Phase::Running { .. } => self.kill_at,
            Phase::BackOff { until, .. } => Some(until.monotonic),
            Phase::Ending { .. } | Phase::Exited { .. } => None,
        }
    }

    /// What clients are told.
    pub fn state(&self) -> ContainerState {
        let phase = match &self.phase {
            Phase::Created { init, .. } => ContainerPhase::Created { process: *init },
            Phase::Running { init, since } => ContainerPhase::Running { process: *init, since: since.wall },
            Phase::BackOff { last, until } => ContainerPhase::BackOff { last: last.clone(), until: until.wall },
            Phase::Exited { last } => ContainerPhase::Exited { last: last.clone() },
            // Nobody is told of an end before it is recorded.
            Phase::Ending { init, since: Some(since), .. } => {
                ContainerPhase::Running { process: *init, since: since.wall }
            }
            Phase::Ending { init, since: None, .. } => ContainerPhase::Created { process: *init },
        };
        ContainerState { id: self.id.clone(), phase, restart: self.policy, restart_count: self.restarts }
    }

    /// Moves on. An event that can come late or twice (a tick, a stop) changes nothing where it means nothing.
    pub fn on(&mut self, event: Event, now: Now) -> Result<Vec<Effect>, Refused> {
        match event {
            Event::Started => self.started(now),
            Event::StartFailed(failure) => Ok(self.start_failed(failure, now)),
            Event::Died { exit } => Ok(self.died(exit, now)),
            Event::Drained { oom_killed } => Ok(self.drained(oom_killed, now)),
            Event::StopAsked { signal, timeout } => Ok(self.stop_asked(signal, timeout, now)),
            Event::KilledByHand => {
                self.stopping = true;
                Ok(vec![])
            }
            Event::Recreated { init, by } => self.recreated(init, by),
            Event::RecreateFailed(failure) => Ok(self.recreate_failed(failure, now)),
            Event::PolicyChanged { policy } => Ok(self.policy_changed(policy)),
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn started(&mut self, now: Now) -> Result<Vec<Effect>, Refused> {
        match &self.phase {
            Phase::Created { init, failure: None } => {
                self.phase = Phase::Running { init: *init, since: now };
                Ok(vec![])
            }
            Phase::Running { .. } => Err(Refused::AlreadyRunning { id: self.id.clone() }),
            Phase::Created { failure: Some(_), .. }
            | Phase::Ending { .. }
            | Phase::BackOff { .. }
            | Phase::Exited { .. } => Err(Refused::NotRunning { id: self.id.clone() }),
        }
    }

    fn start_failed(&mut self, failed: Failure, now: Now) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Created { failure, .. } => {
                *failure = Some(failed);
                // Who started it by hand is told of the failure and decides; the policy tries again.
                if self.started_by == StartedBy::Hand {
                    self.stopping = true;
                }
                self.kill(now)
            }
            Phase::Running { .. } | Phase::Ending { .. } | Phase::BackOff { .. } | Phase::Exited { .. } => vec![],
        }
    }

    fn died(&mut self, exit: Exit, now: Now) -> Vec<Effect> {
        let (init, exit, since, error) = match &self.phase {
            Phase::Created { init, failure: Some(failure) } => {
                (*init, failure.exit, None, Some(failure.message.clone()))
            }
            Phase::Created { init, failure: None } => {
                // Nobody started it, so the policy has nothing to repeat.
                self.stopping = true;
                (*init, exit, None, Some("it ended before it was started".to_owned()))
            }
            Phase::Running { init, since } => (*init, exit, Some(*since), None),
            Phase::Ending { .. } | Phase::BackOff { .. } | Phase::Exited { .. } => return vec![],
        };
        self.kill_at = None;
        self.phase = Phase::Ending { init, exit, at: now, since, error };
        vec![Effect::Drain]
    }

    fn drained(&mut self, oom_killed: bool, now: Now) -> Vec<Effect> {
        let Phase::Ending { exit, at, since, error, .. } = &self.phase else { return vec![] };
        let record = self.record(*exit, *at, *since, error.clone(), oom_killed);
        let ran = since.map_or(Duration::ZERO, |since| at.monotonic.saturating_sub(since.monotonic));
        self.ended(record, ran, now)
    }

    fn stop_asked(&mut self, signal: Signal, timeout: Duration, now: Now) -> Vec<Effect> {
        let first = !self.stopping;
        self.stopping = true;
        match &self.phase {
            // The first process of a pid namespace ignores what it does not handle, and this one handles nothing yet.
            Phase::Created { .. } => self.kill(now),
            Phase::Running { .. } => {
                let asked = now.monotonic.saturating_add(timeout);
                self.kill_at = Some(self.kill_at.map_or(asked, |earlier| earlier.min(asked)));
                if timeout.is_zero() {
                    self.kill(now)
                } else if first {
                    vec![Effect::SignalInit(signal)]
                } else {
                    vec![]
                }
            }
            Phase::BackOff { last, .. } => {
                let last = ExitRecord { will_restart: false, ..last.clone() };
                self.phase = Phase::Exited { last: last.clone() };
                vec![Effect::Announce(last)]
            }
            Phase::Ending { .. } | Phase::Exited { .. } => vec![],
        }
    }

    fn recreated(&mut self, init: ProcessId, by: StartedBy) -> Result<Vec<Effect>, Refused> {
        match &self.phase {
            Phase::BackOff { .. } | Phase::Exited { .. } => {
                match by {
                    StartedBy::Hand => {
                        self.restarts = 0;
                        self.back_off = BackOff::default();
                    }
                    StartedBy::Policy => self.restarts += 1,
                }
                self.started_by = by;
                self.stopping = false;
                self.phase = Phase::Created { init, failure: None };
                Ok(vec![])
            }
            Phase::Created { .. } | Phase::Running { .. } | Phase::Ending { .. } => {
                Err(Refused::AlreadyRunning { id: self.id.clone() })
            }
        }
    }

    fn recreate_failed(&mut self, failure: Failure, now: Now) -> Vec<Effect> {
        match &self.phase {
            Phase::BackOff { .. } => {
                self.restarts += 1;
                let record = self.record(failure.exit, now, None, Some(failure.message), false);
                self.ended(record, Duration::ZERO, now)
            }
            Phase::Created { .. } | Phase::Running { .. } | Phase::Ending { .. } | Phase::Exited { .. } => vec![],
        }
    }

    fn policy_changed(&mut self, policy: RestartPolicy) -> Vec<Effect> {
        self.policy = policy;
        match &self.phase {
            Phase::BackOff { last, .. } if !policy.wants_restart(last.exit, self.restarts) => {
                let last = ExitRecord { will_restart: false, ..last.clone() };
                self.phase = Phase::Exited { last: last.clone() };
                vec![Effect::Announce(last)]
            }
            Phase::BackOff { .. }
            | Phase::Created { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Exited { .. } => vec![],
        }
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        if self.deadline().is_none_or(|deadline| now.monotonic < deadline) {
            return vec![];
        }
        match &self.phase {
            Phase::Created { .. } | Phase::Running { .. } => self.kill(now),
            Phase::BackOff { .. } => vec![Effect::Recreate],
            Phase::Ending { .. } | Phase::Exited { .. } => vec![],
        }
    }

    fn kill(&mut self, now: Now) -> Vec<Effect> {
        self.kill_at = Some(now.monotonic.saturating_add(KILL_AGAIN));
        vec![Effect::KillAll]
    }

    /// The end is known in full: decides what comes next.
    fn ended(&mut self, mut record: ExitRecord, ran: Duration, now: Now) -> Vec<Effect> {
        record.will_restart = !self.stopping && self.policy.wants_restart(record.exit, self.restarts);
        self.phase = if record.will_restart {
            let delay = self.back_off.delay(ran);
            let wall = now.wall.nanoseconds().saturating_add(delay.as_nanos() as i64);
            let until = Now { wall: Timestamp::from_nanoseconds(wall), monotonic: now.monotonic.saturating_add(delay) };
            Phase::BackOff { last: record.clone(), until }
        } else {
            Phase::Exited { last: record.clone() }
        };
        vec![Effect::Announce(record)]
    }

    fn record(&self, exit: Exit, at: Now, since: Option<Now>, error: Option<String>, oom_killed: bool) -> ExitRecord {
        ExitRecord {
            version: ExitRecord::VERSION,
            id: self.id.clone(),
            exit,
            oom_killed,
            started_at: since.map(|since| since.wall),
            finished_at: at.wall,
            restart_count: self.restarts,
            will_restart: false,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INIT: ProcessId = ProcessId { pid: 100, start_time: 1 };
    const AGAIN: ProcessId = ProcessId { pid: 101, start_time: 2 };

    fn at(milliseconds: u64) -> Now {
        Now {
            wall: Timestamp::from_nanoseconds(1_000_000 * milliseconds as i64),
            monotonic: Duration::from_millis(milliseconds),
        }
    }

    fn life(policy: RestartPolicy) -> Lifecycle {
        Lifecycle::new(ContainerId::new("c").unwrap(), INIT, policy)
    }

    fn running(policy: RestartPolicy) -> Lifecycle {
        let mut life = life(policy);
        assert_eq!(life.on(Event::Started, at(10)), Ok(vec![]));
        life
    }

    fn record(exit: Exit) -> ExitRecord {
        ExitRecord {
            version: 1,
            id: ContainerId::new("c").unwrap(),
            exit,
            oom_killed: false,
            started_at: Some(at(10).wall),
            finished_at: at(20).wall,
            restart_count: 0,
            will_restart: false,
            error: None,
        }
    }

    fn stop(milliseconds: u64) -> Event {
        Event::StopAsked { signal: Signal::TERM, timeout: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn an_exit_is_drained_and_then_announced() {
        let mut life = running(RestartPolicy::No);
        let exit = Exit::Code(3);
        assert_eq!(life.on(Event::Died { exit }, at(20)), Ok(vec![Effect::Drain]));
        assert!(
            matches!(life.state().phase, ContainerPhase::Running { process: INIT, .. }),
            "not told before it is recorded"
        );
        let record = ExitRecord { oom_killed: true, ..record(exit) };
        assert_eq!(life.on(Event::Drained { oom_killed: true }, at(30)), Ok(vec![Effect::Announce(record.clone())]));
        assert_eq!(life.phase(), &Phase::Exited { last: record });
        assert_eq!(life.on(Event::Died { exit }, at(40)), Ok(vec![]), "a repeat changes nothing");
    }

    #[test]
    fn a_stop_signals_once_and_kills_at_the_earliest_deadline() {
        let mut life = running(RestartPolicy::Always);
        assert_eq!(life.on(stop(10_000), at(100)), Ok(vec![Effect::SignalInit(Signal::TERM)]));
        assert_eq!(life.deadline(), Some(Duration::from_millis(10_100)));
        assert_eq!(life.on(stop(60_000), at(200)), Ok(vec![]), "a longer one joins");
        assert_eq!(life.deadline(), Some(Duration::from_millis(10_100)));
        assert_eq!(life.on(stop(1_000), at(300)), Ok(vec![]), "a shorter one shortens");
        assert_eq!(life.on(Event::Tick, at(1_299)), Ok(vec![]));
        assert_eq!(life.on(Event::Tick, at(1_300)), Ok(vec![Effect::KillAll]));
        assert_eq!(life.on(Event::Tick, at(1_301)), Ok(vec![]));
        assert_eq!(life.on(Event::Tick, at(2_300)), Ok(vec![Effect::KillAll]), "again, if it is still there");
        assert_eq!(life.on(stop(0), at(2_400)), Ok(vec![Effect::KillAll]));
        life.on(Event::Died { exit: Exit::Signal(9) }, at(2_500)).unwrap();
        life.on(Event::Drained { oom_killed: false }, at(2_500)).unwrap();
        assert!(life.has_exited(), "a stop ends restarts");
    }

    #[test]
    fn a_created_container_is_killed_by_a_stop_since_it_cannot_handle_signals() {
        let mut life = life(RestartPolicy::Always);
        assert_eq!(life.on(stop(10_000), at(5)), Ok(vec![Effect::KillAll]));
        life.on(Event::Died { exit: Exit::Signal(9) }, at(6)).unwrap();
        life.on(Event::Drained { oom_killed: false }, at(7)).unwrap();
        let Phase::Exited { last } = life.phase() else { panic!("{life:?}") };
        assert_eq!((last.started_at, last.exit), (None, Exit::Signal(9)));
    }

    #[test]
    fn a_program_that_cannot_be_executed_exits_with_the_code_shells_have_for_it() {
        for (kind, code) in [(Kind::NotFound, 127), (Kind::Denied, 126), (Kind::Internal, 125)] {
            let mut life = life(RestartPolicy::Always);
            let failure = Failure::new(kind, "exec: no".into());
            assert_eq!(life.on(Event::StartFailed(failure), at(10)), Ok(vec![Effect::KillAll]));
            life.on(Event::Died { exit: Exit::Code(1) }, at(20)).unwrap();
            let last = ExitRecord { started_at: None, error: Some("exec: no".into()), ..record(Exit::Code(code)) };
            assert_eq!(
                life.on(Event::Drained { oom_killed: false }, at(30)),
                Ok(vec![Effect::Announce(last)]),
                "and whoever started it by hand decides what comes next"
            );
        }
    }

    #[test]
    fn a_restart_waits_counts_and_tries_again_when_it_fails() {
        let mut life = running(RestartPolicy::OnFailure { max_retries: Some(2) });
        life.on(Event::Died { exit: Exit::Code(1) }, at(20)).unwrap();
        let first = ExitRecord { will_restart: true, ..record(Exit::Code(1)) };
        assert_eq!(life.on(Event::Drained { oom_killed: false }, at(30)), Ok(vec![Effect::Announce(first)]));
        assert_eq!(life.deadline(), Some(Duration::from_millis(130)));
        assert_eq!(life.on(Event::Tick, at(129)), Ok(vec![]));
        assert_eq!(life.on(Event::Tick, at(130)), Ok(vec![Effect::Recreate]));
        let failure = Failure::new(Kind::Internal, "no".into());
        life.on(Event::RecreateFailed(failure), at(131)).unwrap();
        assert_eq!(life.deadline(), Some(Duration::from_millis(331)), "the second delay is twice the first");
        assert_eq!(life.on(Event::Tick, at(331)), Ok(vec![Effect::Recreate]));
        life.on(Event::Recreated { init: AGAIN, by: StartedBy::Policy }, at(332)).unwrap();
        life.on(Event::Started, at(333)).unwrap();
        assert_eq!(life.init(), Some(AGAIN));
        life.on(Event::Died { exit: Exit::Code(1) }, at(340)).unwrap();
        life.on(Event::Drained { oom_killed: false }, at(341)).unwrap();
        let Phase::Exited { last } = life.phase() else { panic!("{life:?}") };
        assert_eq!(last.restart_count, 2);
        life.on(Event::Recreated { init: INIT, by: StartedBy::Hand }, at(400)).unwrap();
        assert_eq!(life.state().restart_count, 0, "counted anew from each start by hand");
    }

    #[test]
    fn a_stop_or_a_policy_that_does_not_want_it_ends_the_wait_for_a_restart() {
        for event in [stop(1_000), Event::PolicyChanged { policy: RestartPolicy::No }] {
            let mut life = running(RestartPolicy::Always);
            life.on(Event::Died { exit: Exit::Code(0) }, at(20)).unwrap();
            life.on(Event::Drained { oom_killed: false }, at(20)).unwrap();
            assert_eq!(life.on(event, at(30)), Ok(vec![Effect::Announce(record(Exit::Code(0)))]));
            assert!(life.has_exited());
            assert_eq!(life.on(Event::Tick, at(1_000_000)), Ok(vec![]));
        }
    }

    /// The same rules, written as naively as possible.
    #[derive(Debug, PartialEq)]
    enum Model {
        Created,
        Doomed,
        Running,
        Ending,
        Waiting,
        Over,
    }

    fn events() -> impl Strategy<Value = Event> {
        let exits = prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(1)), Just(Exit::Signal(9))];
        let policies = prop_oneof![
            Just(RestartPolicy::No),
            Just(RestartPolicy::Always),
            Just(RestartPolicy::OnFailure { max_retries: Some(1) }),
        ];
        prop_oneof![
            Just(Event::Started),
            Just(Event::StartFailed(Failure::new(Kind::NotFound, "no".into()))),
            exits.prop_map(|exit| Event::Died { exit }),
            Just(Event::Drained { oom_killed: false }),
            (0u64..3).prop_map(|seconds| stop(seconds * 1000)),
            Just(Event::KilledByHand),
            prop_oneof![Just(StartedBy::Hand), Just(StartedBy::Policy)]
                .prop_map(|by| Event::Recreated { init: AGAIN, by }),
            Just(Event::RecreateFailed(Failure::new(Kind::Internal, "no".into()))),
            policies.prop_map(|policy| Event::PolicyChanged { policy }),
            Just(Event::Tick),
        ]
    }

    proptest! {
        #[test]
        fn every_history_agrees_with_the_naive_model(history in proptest::collection::vec((events(), 0u64..2_000), 0..40)) {
            let mut life = life(RestartPolicy::Always);
            let (mut model, mut policy, mut may_restart) = (Model::Created, RestartPolicy::Always, true);
            let (mut exit, mut by, mut restarts) = (Exit::Code(0), StartedBy::Hand, 0);
            let (mut clock, mut was_stopped) = (0, false);
            for (event, step) in history {
                clock += step;
                let answer = life.on(event.clone(), at(clock));
                was_stopped = match event {
                    Event::StopAsked { .. } => true,
                    Event::Recreated { .. } | Event::Died { .. } => false,
                    _ => was_stopped,
                };
                let effects = answer.clone().unwrap_or_default();
                let announced = effects.iter().filter(|effect| matches!(effect, Effect::Announce(_))).count();
                let before = std::mem::replace(&mut model, Model::Over);
                let ended = |policy: RestartPolicy, may_restart: bool, exit, restarts| {
                    if may_restart && policy.wants_restart(exit, restarts) { Model::Waiting } else { Model::Over }
                };
                model = match (before, event) {
                    (Model::Created, Event::Started) => Model::Running,
                    (Model::Created | Model::Doomed, Event::StartFailed(failure)) => {
                        exit = failure.exit;
                        may_restart &= by == StartedBy::Policy;
                        Model::Doomed
                    }
                    (Model::Created, Event::Died { exit: died }) => {
                        (exit, may_restart) = (died, false);
                        Model::Ending
                    }
                    (Model::Doomed, Event::Died { .. }) => Model::Ending,
                    (Model::Running, Event::Died { exit: died }) => {
                        exit = died;
                        Model::Ending
                    }
                    (Model::Ending, Event::Drained { .. }) => ended(policy, may_restart, exit, restarts),
                    (Model::Waiting, Event::StopAsked { .. }) => {
                        may_restart = false;
                        Model::Over
                    }
                    (before, Event::StopAsked { .. } | Event::KilledByHand) => {
                        may_restart = false;
                        before
                    }
                    (Model::Waiting | Model::Over, Event::Recreated { by: who, .. }) => {
                        restarts = if who == StartedBy::Hand { 0 } else { restarts + 1 };
                        (by, may_restart) = (who, true);
                        Model::Created
                    }
                    (Model::Waiting, Event::RecreateFailed(failure)) => {
                        (exit, restarts) = (failure.exit, restarts + 1);
                        ended(policy, may_restart, exit, restarts)
                    }
                    (Model::Waiting, Event::PolicyChanged { policy: new }) => {
                        policy = new;
                        ended(policy, true, exit, restarts)
                    }
                    (before, Event::PolicyChanged { policy: new }) => {
                        policy = new;
                        before
                    }
                    (before, _) => before,
                };
                let seen = match life.phase() {
                    Phase::Created { failure: None, .. } => Model::Created,
                    Phase::Created { failure: Some(_), .. } => Model::Doomed,
                    Phase::Running { .. } => Model::Running,
                    Phase::Ending { .. } => Model::Ending,
                    Phase::BackOff { .. } => Model::Waiting,
                    Phase::Exited { .. } => Model::Over,
                };
                prop_assert_eq!(&seen, &model);
                prop_assert!(announced <= 1);
                // Whatever is to happen by itself has a deadline, so nothing waits for ever.
                match model {
                    Model::Waiting | Model::Doomed => prop_assert!(life.deadline().is_some()),
                    Model::Ending | Model::Over => prop_assert!(life.deadline().is_none()),
                    Model::Created | Model::Running => prop_assert!(!was_stopped || life.deadline().is_some()),
                }
                if let Phase::BackOff { last, .. } | Phase::Exited { last } = life.phase() {
                    prop_assert_eq!(last.exit, exit);
                    prop_assert_eq!(last.will_restart, model == Model::Waiting);
                }
            }
        }
    }
}
