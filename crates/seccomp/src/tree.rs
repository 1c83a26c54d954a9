//! Searches the number of a call by halves.
//!
//! Numbers with one outcome next to each other are one range, so that a profile of four hundred calls has some eighty ranges and a
//! call finds its own in about six comparisons. Halves are equal in weight, not in count: calls that programs make all the time
//! weigh more, so that they come sooner.

use crate::action::Verdict;
use crate::arch::{Abi, X32_BIT};
use crate::assembly::{Assembly, Label, NUMBER, Test};
use crate::rules::{ARM_PRIVATE, ARM_PRIVATE_END, Calls, Rule, Slot};

/// Calls that make up most of what programs do.
const FREQUENT: &[&str] = &[
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "fstat",
    "futex",
    "getpid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "munmap",
    "newfstatat",
    "openat",
    "poll",
    "ppoll",
    "pread64",
    "pwrite64",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "rt_sigprocmask",
    "sched_yield",
    "sendmsg",
    "sendto",
    "socket",
    "write",
    "writev",
];
const FREQUENT_WEIGHT: u32 = 4;

/// What the numbers from `start` to the next range get.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    start: u32,
    outcome: Outcome<'a>,
    /// The weight of this range and all before it.
    weight: u32,
}

#[derive(Debug, Clone, Copy)]
enum Outcome<'a> {
    Verdict(Verdict),
    When { rules: &'a [Rule], is_narrow: bool },
}

/// The verdicts beside the rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fallback {
    /// No rule matches.
    pub(crate) default: Verdict,
    /// The call is newer than anything the profile names.
    pub(crate) newer: Verdict,
    /// The call belongs to an ABI that the profile does not list.
    pub(crate) foreign: Verdict,
}

/// Writes the search through the numbers of one audit architecture: one ABI, or X86_64 and X32 which share theirs.
pub(crate) fn write(assembly: &mut Assembly, group: &[Calls], fallback: Fallback) -> Label {
    let ranges = ranges(group, fallback);
    let search = write_search(assembly, &ranges, 0, fallback.default);
    assembly.load(NUMBER, search)
}

fn ranges<'a>(group: &'a [Calls], fallback: Fallback) -> Vec<Range<'a>> {
    let mut ranges = Ranges(Vec::with_capacity(192));
    for calls in group {
        push_abi(&mut ranges, calls, fallback);
    }
    // Bit 30 without X32 in the profile is a call of a foreign ABI. Number -1 is none: a tracer writes it to skip a call.
    if group[0].abi == Abi::X86_64 && group.len() == 1 {
        ranges.push(X32_BIT, Outcome::Verdict(fallback.foreign));
        ranges.push(u32::MAX, Outcome::Verdict(fallback.default));
    }
    let mut ranges = ranges.0;
    weigh(&mut ranges, group[0].abi);
    ranges
}

fn push_abi<'a>(ranges: &mut Ranges<'a>, calls: &'a Calls, fallback: Fallback) {
    let outcome = |slot| match slot {
        Slot::Default => Outcome::Verdict(fallback.default),
        Slot::Always(verdict) => Outcome::Verdict(verdict),
        Slot::When(at) => {
            Outcome::When { rules: &calls.conditional[usize::from(at)], is_narrow: calls.abi.is_narrow() }
        }
    };
    let mut end = 0;
    for (number, slot) in calls.ordinary() {
        ranges.push(calls.abi.marked(number), outcome(slot));
        end = number + 1;
    }
    let newer = Outcome::Verdict(fallback.newer);
    match calls.highest {
        Some(highest) => {
            if highest >= end {
                ranges.push(calls.abi.marked(end), Outcome::Verdict(fallback.default));
            }
            ranges.push(calls.abi.marked(highest + 1), newer);
        }
        None => ranges.push(calls.abi.marked(end), Outcome::Verdict(fallback.default)),
    }
    if calls.abi == Abi::Arm {
        ranges.push(ARM_PRIVATE, Outcome::Verdict(fallback.default));
        for (number, slot) in calls.private() {
            ranges.push(number, outcome(slot));
        }
        ranges.push(ARM_PRIVATE_END, if calls.highest.is_some() { newer } else { Outcome::Verdict(fallback.default) });
    }
}

/// Ranges in ascending order, neighbours different.
struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn push(&mut self, start: u32, outcome: Outcome<'a>) {
        match self.0.last_mut() {
            // The former range turned out empty.
            Some(last) if last.start == start => {
                self.0.pop();
                self.push(start, outcome);
            }
            Some(last) if last.outcome.is_same(outcome) => {}
            _ => self.0.push(Range { start, outcome, weight: 0 }),
        }
    }
}

impl Outcome<'_> {
    fn is_same(self, other: Outcome<'_>) -> bool {
        match (self, other) {
            (Outcome::Verdict(one), Outcome::Verdict(two)) => one == two,
            (
                Outcome::When { rules: one, is_narrow: narrow_one },
                Outcome::When { rules: two, is_narrow: narrow_two },
            ) => narrow_one == narrow_two && one == two,
            _ => false,
        }
    }
}

fn weigh(ranges: &mut [Range<'_>], abi: Abi) {
    for range in ranges.iter_mut() {
        range.weight = 1;
    }
    for number in FREQUENT.iter().filter_map(|name| abi.number(name)) {
        let at = ranges.partition_point(|range| range.start <= number) - 1;
        ranges[at].weight += FREQUENT_WEIGHT;
    }
    let mut sum = 0;
    for range in ranges {
        sum += range.weight;
        range.weight = sum;
    }
}

/// `before` is the weight of all ranges in front of these.
fn write_search(assembly: &mut Assembly, ranges: &[Range<'_>], before: u32, default: Verdict) -> Label {
    if let [range] = ranges {
        return write_outcome(assembly, range.outcome, default);
    }
    let half = before + (ranges[ranges.len() - 1].weight - before) / 2;
    let middle = ranges.partition_point(|range| range.weight <= half).clamp(1, ranges.len() - 1);
    let (below, above) = ranges.split_at(middle);
    let yes = write_search(assembly, above, below[middle - 1].weight, default);
    let no = write_search(assembly, below, before, default);
    assembly.branch(Test::GreaterOrEqual, above[0].start, yes, no)
}

fn write_outcome(assembly: &mut Assembly, outcome: Outcome<'_>, default: Verdict) -> Label {
    match outcome {
        Outcome::Verdict(verdict) => assembly.verdict(verdict),
        Outcome::When { rules, is_narrow } => {
            let mut otherwise = assembly.verdict(default);
            for rule in rules.iter().rev() {
                let mut next = assembly.verdict(rule.verdict);
                for condition in rule.conditions.iter().rev() {
                    next = assembly.condition(condition, is_narrow, next, otherwise);
                }
                otherwise = next;
            }
            otherwise
        }
    }
}
