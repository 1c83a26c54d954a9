//! Turns the rules of a profile into one outcome for each ABI and number.
//!
//! Where the specification is silent, libseccomp and runc decide, since profiles are written against them:
//!
//! - a rule whose verdict is the default's is dropped, and then does not shadow another rule of the same call;
//! - of two rules without conditions the first stays;
//! - a rule without conditions takes the place of all conditional rules of its call, wherever it stands;
//! - all conditions of a rule must hold, unless two of them look at the same argument: then each is a rule of its own (runc);
//! - two rules with equal conditions and different verdicts are an error;
//! - if several conditional rules match a call, the most severe verdict wins (libseccomp: the order of its tree, which says nothing);
//! - 32-bit ABIs compare the low half of an argument;
//! - on i386 a rule for a socket or System V IPC call also covers the way through `socketcall` or `ipc`. What that way hides is the
//!   conditions: there a conditional rule counts only if it is more severe than the default, so nothing slips through unseen.
//!
//! Pure.

use carrack_oci_config::{LinuxSeccomp, LinuxSyscall};

use crate::action::Verdict;
use crate::arch::{Abi, X32_BIT};
use crate::condition::{Condition, Operator};
use crate::multiplexer;
use crate::program::CompileError;
use crate::table;

/// Numbers from here on are ARM's private calls.
pub(crate) const ARM_PRIVATE: u32 = 0xf_0000;
/// The first number behind them.
pub(crate) const ARM_PRIVATE_END: u32 = ARM_PRIVATE + 16;
/// Ordinary numbers stay below; ARM's private ones are kept behind them.
const ORDINARY: usize = 1024;
const SLOTS: usize = ORDINARY + (ARM_PRIVATE_END - ARM_PRIVATE) as usize;

/// A conditional rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) verdict: Verdict,
}

/// What is decided for one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Default,
    Always(Verdict),
    /// An index into [`Calls::conditional`].
    When(u16),
}

/// What is decided for the numbers of one ABI.
pub(crate) struct Calls {
    pub(crate) abi: Abi,
    slots: Vec<Slot>,
    pub(crate) conditional: Vec<Vec<Rule>>,
    /// The highest ordinary number that any rule names: calls beyond it are newer than the profile. Without X32's mark.
    pub(crate) highest: Option<u32>,
}

impl Calls {
    fn new(abi: Abi) -> Self {
        Self { abi, slots: vec![Slot::Default; SLOTS], conditional: Vec::new(), highest: None }
    }

    /// All numbers up to the highest ordinary one that has a rule; bare of X32's mark.
    pub(crate) fn ordinary(&self) -> impl Iterator<Item = (u32, Slot)> {
        let end = self.slots[..ORDINARY].iter().rposition(|slot| *slot != Slot::Default).map_or(0, |last| last + 1);
        (0..).zip(self.slots[..end].iter().copied())
    }

    /// ARM's private numbers.
    pub(crate) fn private(&self) -> impl Iterator<Item = (u32, Slot)> {
        (ARM_PRIVATE..).zip(self.slots[ORDINARY..].iter().copied())
    }

    fn note(&mut self, number: u32) {
        let bare = number & !X32_BIT;
        if bare < ARM_PRIVATE {
            self.highest = self.highest.max(Some(bare));
        }
    }

    fn set_always(&mut self, number: u32, verdict: Verdict) {
        let slot = &mut self.slots[index(number)];
        if !matches!(slot, Slot::Always(_)) {
            *slot = Slot::Always(verdict);
        }
    }

    fn add_conditional(&mut self, number: u32, name: &str, rule: &Rule) -> Result<(), CompileError> {
        let slot = &mut self.slots[index(number)];
        match *slot {
            Slot::Always(_) => Ok(()),
            Slot::Default => {
                *slot = Slot::When(self.conditional.len() as u16);
                self.conditional.push(vec![rule.clone()]);
                Ok(())
            }
            Slot::When(at) => merge(&mut self.conditional[usize::from(at)], name, rule),
        }
    }

    /// Conditional rules of one call look alike through a multiplexer, though they may contradict each other: the most severe stays.
    fn add_multiplexed(&mut self, number: u32, rule: Rule) {
        match self.slots[index(number)] {
            Slot::Always(_) => {}
            Slot::Default => {
                self.slots[index(number)] = Slot::When(self.conditional.len() as u16);
                self.conditional.push(vec![rule]);
            }
            Slot::When(at) => {
                let rules = &mut self.conditional[usize::from(at)];
                let place = rules.partition_point(|old| old.verdict.severity() <= rule.verdict.severity());
                rules.insert(place, rule);
            }
        }
    }
}

fn index(number: u32) -> usize {
    let bare = number & !X32_BIT;
    if bare >= ARM_PRIVATE { ORDINARY + (bare - ARM_PRIVATE) as usize } else { bare as usize }
}

/// Adds a rule to others of the same call, kept from severe to mild; what another rule already says is left out.
fn merge(rules: &mut Vec<Rule>, name: &str, new: &Rule) -> Result<(), CompileError> {
    let covers = |wide: &Rule, narrow: &Rule| wide.conditions.iter().all(|test| narrow.conditions.contains(test));
    for old in rules.iter() {
        if old.verdict == new.verdict && covers(old, new) {
            return Ok(());
        }
        if old.conditions.len() == new.conditions.len() && covers(old, new) && covers(new, old) {
            return Err(CompileError::Contradiction { syscall: name.to_owned() });
        }
    }
    rules.retain(|old| old.verdict != new.verdict || !covers(new, old));
    let place = rules.partition_point(|old| old.verdict.severity() <= new.verdict.severity());
    rules.insert(place, new.clone());
    Ok(())
}

/// Decides every number of the given ABIs.
pub(crate) fn decide(profile: &LinuxSeccomp, abis: &[Abi], default: Verdict) -> Result<Vec<Calls>, CompileError> {
    let mut all: Vec<Calls> = abis.iter().map(|abi| Calls::new(*abi)).collect();
    for entry in &profile.syscalls {
        let verdict = Verdict::parse(&entry.action, entry.errno_ret)
            .map_err(|fault| CompileError::action(fault, &entry.action, entry.errno_ret))?;
        let rules = rules_of(entry, verdict)?;
        for name in &entry.names {
            if name.is_empty() {
                return Err(CompileError::EmptyName);
            }
            if verdict == Verdict::NOTIFY && name == "write" {
                return Err(CompileError::NotifyOnWrite);
            }
            let Some(row) = table::numbers(name) else { continue };
            for calls in &mut all {
                apply(calls, name, row, &rules, verdict, default)?;
            }
        }
    }
    Ok(all)
}

/// The conditional rules of an entry; empty when it has no conditions.
fn rules_of(entry: &LinuxSyscall, verdict: Verdict) -> Result<Vec<Rule>, CompileError> {
    let mut conditions = Vec::with_capacity(entry.args.len());
    for wire in &entry.args {
        conditions.push(Condition::parse(wire).map_err(|fault| CompileError::condition(fault, wire))?);
    }
    let mut indexes = [false; 6];
    let is_repeated = conditions.iter().any(|test| std::mem::replace(&mut indexes[usize::from(test.index)], true));
    if is_repeated {
        return Ok(conditions.into_iter().map(|test| Rule { conditions: vec![test], verdict }).collect());
    }
    Ok(if conditions.is_empty() { Vec::new() } else { vec![Rule { conditions, verdict }] })
}

fn apply(
    calls: &mut Calls,
    name: &str,
    row: &table::Row,
    rules: &[Rule],
    verdict: Verdict,
    default: Verdict,
) -> Result<(), CompileError> {
    let number = calls.abi.pick(row);
    if let Some(number) = number {
        calls.note(number);
    }
    if verdict == default {
        return Ok(());
    }
    if let Some(number) = number {
        add(calls, number, name, rules, verdict)?;
    }
    if calls.abi == Abi::X86
        && let Some(inner) = multiplexer::inner(name)
        && (rules.is_empty() || verdict.severity() < default.severity())
    {
        let is_inner = Condition { index: 0, operator: Operator::Equal, value: inner.selector, value_two: 0 };
        calls.add_multiplexed(inner.number, Rule { conditions: vec![is_inner], verdict });
    }
    Ok(())
}

fn add(calls: &mut Calls, number: u32, name: &str, rules: &[Rule], verdict: Verdict) -> Result<(), CompileError> {
    if rules.is_empty() {
        calls.set_always(number, verdict);
        return Ok(());
    }
    for rule in rules {
        if calls.abi.is_narrow() {
            let conditions = rule.conditions.iter().map(|test| test.narrowed()).collect();
            calls.add_conditional(number, name, &Rule { conditions, verdict })?;
        } else {
            calls.add_conditional(number, name, rule)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_table_has_a_slot() {
        for (name, row) in &table::CALLS {
            for number in row.iter().filter(|number| **number != table::NO) {
                let at = index(*number as u32);
                assert!(at < SLOTS && (at >= ORDINARY || *number < ORDINARY as i32), "{name} {number}");
            }
        }
    }
}
