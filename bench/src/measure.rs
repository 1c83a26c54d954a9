//! Runs contenders in turn, and gathers what each run took.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use carrack_sys::rustix::process::Pid;
use carrack_sys::usage::wait_with_usage;

/// Something that is measured: a name, and how one run is made. The closure gets the number of the run, for unique names.
pub struct Contender<'a> {
    /// In the table.
    pub name: String,
    run: Box<dyn FnMut(usize) -> Sample + 'a>,
    samples: Vec<Sample>,
}

/// One run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// On the clock.
    pub took: Duration,
    /// Of all processors, where it is known.
    pub cpu: Duration,
    /// The largest resident set, where it is known.
    pub peak_bytes: u64,
}

impl<'a> Contender<'a> {
    /// A contender whose run is a program that must succeed.
    pub fn program(name: &str, mut command: impl FnMut(usize) -> Command + 'a) -> Self {
        Self::work(name, move |number| time_program(&mut command(number)))
    }

    /// A contender whose run measures itself.
    pub fn work(name: &str, run: impl FnMut(usize) -> Sample + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run), samples: vec![] }
    }

    /// The middle time.
    pub fn median(&self) -> Duration {
        middle(self.samples.iter().map(|sample| sample.took).collect())
    }

    /// The middle processor time.
    pub fn cpu(&self) -> Duration {
        middle(self.samples.iter().map(|sample| sample.cpu).collect())
    }

    /// The largest resident set of any run.
    pub fn peak_bytes(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or(0)
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
                let sample = (contender.run)(turn * (block + warm_up) + run);
                if run >= warm_up {
                    contender.samples.push(sample);
                }
            }
        }
    }
}

/// Runs a program, which must succeed, with its output thrown away.
pub fn time_program(command: &mut Command) -> Sample {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
    let (status, usage) = wait_with_usage(pid).expect("our own child can be waited for");
    let took = started.elapsed();
    assert!(status.success(), "{command:?} failed; run it by hand to see why");
    Sample { took, cpu: usage.user + usage.system, peak_bytes: usage.peak_bytes }
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
