//! Writes classic BPF from its last instruction to its first.
//!
//! A jump of BPF goes forward only, by at most 255 instructions if it is conditional. Writing backwards, every target already has
//! its place when a jump to it is written, so its distance is known and a far one gets a stepping stone at once.

use carrack_sys::seccomp::SockFilter;

use crate::action::Verdict;
use crate::condition::{Condition, Operator};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Tests of the accumulator.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(crate) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
    AnyBit = 0x45,
}

/// Offsets in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump reaches, less the stepping stones that its other arm may need.
const REACH: usize = 253;

/// An instruction already written; a place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program under construction.
pub(crate) struct Assembly {
    backwards: Vec<SockFilter>,
    /// The latest `return` of each verdict, to be shared while it is near.
    returns: Vec<(Verdict, Label)>,
}

impl Assembly {
    pub(crate) fn new() -> Self {
        Self { backwards: Vec::with_capacity(512), returns: Vec::with_capacity(8) }
    }

    pub(crate) fn finish(mut self) -> Vec<SockFilter> {
        self.backwards.reverse();
        self.backwards
    }

    /// A place that answers with a verdict.
    pub(crate) fn verdict(&mut self, verdict: Verdict) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == verdict);
        if let Some(at) = known
            && self.backwards.len() - self.returns[at].1.0 < REACH
        {
            return self.returns[at].1;
        }
        let label = self.push(RETURN, 0, 0, verdict.raw());
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((verdict, label)),
        }
        label
    }

    /// Loads a word of `seccomp_data`, then goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Goes to `yes` if the accumulator passes the test, to `no` otherwise.
    pub(crate) fn branch(&mut self, test: Test, operand: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(test as u16, jt, jf, operand)
    }

    /// Tests one argument; a narrow one by its low half.
    pub(crate) fn condition(&mut self, condition: &Condition, is_narrow: bool, yes: Label, no: Label) -> Label {
        let Condition { index, operator, value, value_two } = *condition;
        let low = ARGUMENTS + 8 * u32::from(index);
        let argument = Argument { low, high: (!is_narrow).then_some(low + 4) };
        match operator {
            Operator::Equal => self.equal(argument, value, yes, no),
            Operator::NotEqual => self.equal(argument, value, no, yes),
            Operator::Greater => self.ordered(argument, Test::Greater, value, yes, no),
            Operator::LessOrEqual => self.ordered(argument, Test::Greater, value, no, yes),
            Operator::GreaterOrEqual => self.ordered(argument, Test::GreaterOrEqual, value, yes, no),
            Operator::Less => self.ordered(argument, Test::GreaterOrEqual, value, no, yes),
            Operator::MaskedEqual => self.masked(argument, value, value_two, yes, no),
        }
    }

    fn equal(&mut self, argument: Argument, value: u64, yes: Label, no: Label) -> Label {
        let low = self.branch(Test::Equal, value as u32, yes, no);
        let low = self.load(argument.low, low);
        let Some(high) = argument.high else { return low };
        let test = self.branch(Test::Equal, (value >> 32) as u32, low, no);
        self.load(high, test)
    }

    /// The high half decides unless it is equal; then the low half does. `test` is one of the two that order numbers.
    fn ordered(&mut self, argument: Argument, test: Test, value: u64, yes: Label, no: Label) -> Label {
        let low = self.branch(test, value as u32, yes, no);
        let low = self.load(argument.low, low);
        let Some(high) = argument.high else { return low };
        let is_equal = self.branch(Test::Equal, (value >> 32) as u32, low, no);
        let is_greater = self.branch(Test::Greater, (value >> 32) as u32, yes, is_equal);
        self.load(high, is_greater)
    }

    fn masked(&mut self, argument: Argument, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let low = self.masked_half(argument.low, mask as u32, value as u32, yes, no);
        match argument.high {
            Some(high) => self.masked_half(high, (mask >> 32) as u32, (value >> 32) as u32, low, no),
            None => low,
        }
    }

    fn masked_half(&mut self, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        if value & !mask != 0 {
            return no;
        }
        if mask == 0 {
            return yes;
        }
        let test = if value == 0 {
            self.branch(Test::AnyBit, mask, no, yes)
        } else {
            let is_equal = self.branch(Test::Equal, value, yes, no);
            if mask == u32::MAX { is_equal } else { self.and(mask, is_equal) }
        };
        // Both arms alike: there is nothing to look at.
        if yes == no { yes } else { self.load(offset, test) }
    }

    fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_into(next);
        self.push(AND, 0, 0, mask)
    }

    /// Sees to it that the instruction written next is followed by `next`.
    fn fall_into(&mut self, next: Label) {
        let distance = self.distance(next);
        if distance > 0 {
            self.push(JUMP, 0, 0, distance as u32);
        }
    }

    /// A place within a conditional jump's reach that leads to `target`.
    fn near(&mut self, target: Label) -> Label {
        let distance = self.distance(target);
        if distance < REACH { target } else { self.push(JUMP, 0, 0, distance as u32) }
    }

    /// Instructions between `target` and the one written next.
    fn distance(&self, target: Label) -> usize {
        self.backwards.len() - target.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.backwards.push(SockFilter { code, jt, jf, k });
        Label(self.backwards.len() - 1)
    }
}

/// Where the halves of an argument lie in `seccomp_data` on a little-endian host; a narrow argument has no high half.
#[derive(Clone, Copy)]
struct Argument {
    low: u32,
    high: Option<u32>,
}
