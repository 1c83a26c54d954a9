//! Runs contenders in turn, and gathers what each run took.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use carrack_sys::rustix::process::Pid;
use carrack_sys::usage::wait_with_usage;

/// Something that is measured: a name, and how one run is made. The closures get the number of the run, for unique names.
pub struct Contender<'a> {
    /// In the table.
    pub name: String,
    run: Run<'a>,
    samples: Vec<Sample>,
    peak_bytes: Option<u64>,
}

enum Run<'a> {
    /// A program that must succeed.
    Program(Box<dyn FnMut(usize) -> Command + 'a>),
    /// Work that measures itself.
    Work(Box<dyn FnMut(usize) -> Sample + 'a>),
}

/// One run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// On the clock.
    pub took: Duration,
    /// Of all processors, where it is known.
    pub cpu: Duration,
}

impl Sample {
    /// One run after the other.
    pub fn plus(self, other: Self) -> Self {
        Self { took: self.took + other.took, cpu: self.cpu + other.cpu }
    }
}

impl<'a> Contender<'a> {
    /// A contender whose run is a program.
    pub fn program(name: &str, command: impl FnMut(usize) -> Command + 'a) -> Self {
        Self { name: name.into(), run: Run::Program(Box::new(command)), samples: vec![], peak_bytes: None }
    }

    /// A contender whose run measures itself.
    pub fn work(name: &str, run: impl FnMut(usize) -> Sample + 'a) -> Self {
        Self { name: name.into(), run: Run::Work(Box::new(run)), samples: vec![], peak_bytes: None }
    }

    /// The middle time.
    pub fn median(&self) -> Duration {
        middle(self.samples.iter().map(|sample| sample.took).collect())
    }

    /// The middle processor time.
    pub fn cpu(&self) -> Duration {
        middle(self.samples.iter().map(|sample| sample.cpu).collect())
    }

    /// The largest resident set of any process of a run, for programs.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.peak_bytes
    }

    fn sample(&mut self, number: usize) -> Sample {
        match &mut self.run {
            Run::Program(command) => time_program(&mut command(number)),
            Run::Work(work) => work(number),
        }
    }
}

/// Runs each contender `rounds` times, with `pause` between any two runs.
///
/// The contenders take turns in blocks of `block` runs, so that a drift of the machine meets all alike; who begins changes from
/// turn to turn, since what one leaves the kernel to clean up is paid by the next. The first run of each turn is not counted for
/// the same reason, unless a turn is a single run.
pub fn race(contenders: &mut [Contender<'_>], rounds: usize, block: usize, pause: Duration) {
    let warm_up = usize::from(block > 1);
    let turns = rounds.div_ceil(block);
    for turn in 0..turns {
        for seat in 0..contenders.len() {
            let index = (seat + turn) % contenders.len();
            let contender = &mut contenders[index];
            for run in 0..block + warm_up {
                thread::sleep(pause);
                let sample = contender.sample(turn * (block + warm_up) + run);
                if run >= warm_up {
                    contender.samples.push(sample);
                }
            }
        }
    }
    for contender in contenders {
        if let Run::Program(command) = &mut contender.run {
            contender.peak_bytes = Some(peak_of(&command(usize::MAX)));
        }
    }
}

/// The largest resident set of a run, by a run of its own below a small program: what the kernel reports of a child begins with
/// the size of the process that forked it, and this one is larger than what it measures.
fn peak_of(command: &Command) -> u64 {
    let mut timed = Command::new(std::env::var_os("CARRACK_PEAK").expect("cargo xtask bench sets CARRACK_PEAK"));
    timed.arg(command.get_program()).args(command.get_args());
    let ran = carrack_tests::command::run(&mut timed);
    assert_eq!(ran.code, 0, "{ran}");
    let line = ran.stderr.lines().rev().find_map(|line| line.strip_prefix("peak-kib "));
    line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Runs a program, which must succeed, with its output thrown away.
pub fn time_program(command: &mut Command) -> Sample {
    let started = Instant::now();
    let pid = start(command);
    let cpu = wait(pid, command);
    Sample { took: started.elapsed(), cpu }
}

/// Starts programs one after the other without waiting, then waits for all.
pub fn time_together(commands: impl IntoIterator<Item = Command>) -> Sample {
    let started = Instant::now();
    let running: Vec<_> = commands.into_iter().map(|mut command| (start(&mut command), command)).collect();
    let cpu = running.iter().map(|(pid, command)| wait(*pid, command)).sum();
    Sample { took: started.elapsed(), cpu }
}

fn start(command: &mut Command) -> Pid {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "wait() reaps it, which the lint cannot see")]
    let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid")
}

fn wait(pid: Pid, command: &Command) -> Duration {
    let (status, usage) = wait_with_usage(pid).expect("our own child can be waited for");
    assert!(status.success(), "{command:?} failed; run it by hand to see why");
    usage.user + usage.system
}

/// How many system calls a program and its children make, by strace.
pub fn count_system_calls(command: &Command, place: &Path) -> u64 {
    let report = place.join("strace");
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-c", "-qq", "-U", "calls", "-o"])
        .arg(&report)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    let ran = carrack_tests::command::run(&mut traced);
    assert_eq!(ran.code, 0, "{ran}");
    let report = fs::read_to_string(&report).expect("strace wrote its report");
    // The last line is the total; with one column asked for, it is that number and perhaps the word.
    report.lines().rev().find_map(|line| line.split_whitespace().find_map(|word| word.parse().ok())).unwrap_or(0)
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
