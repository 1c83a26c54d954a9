//! Writes the program that decides about devices in version 2 (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The rules are played through in order on a set of allowed accesses, so that a later rule wins for each access by itself, also
//! where it cuts a hole into an earlier one. The kernel calls the program for mknod(2) and open(2) with `struct
//! bpf_cgroup_dev_ctx`; the answer 1 allows.

use carrack_oci_config::LinuxDeviceCgroup;
use carrack_sys::bpf::BpfInstruction;

use crate::device::{ALL, Devices, Kind, Rule};
use crate::error::PlanError;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const ALLOWED: u8 = 6;

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const AND_REGISTER: u8 = 0x5f;
const OR: u8 = 0x47;
const XOR: u8 = 0xa7;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_UNLESS_EQUAL_32: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K: device numbers are unsigned words
const EXIT: u8 = 0x95;

/// The program of these rules.
pub fn device_program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<BpfInstruction>, PlanError> {
    let rules = rules.iter().map(Rule::parse).collect::<Result<Vec<_>, _>>()?;
    // What stands before a rule about everything has no say.
    let last = rules.iter().rposition(|rule| matches!(rule, Rule::Everything { .. }));
    let start = match last.map(|at| rules[at]) {
        Some(Rule::Everything { allow: true }) => ALL,
        _ => 0,
    };
    let mut program = vec![
        load(TYPE, 0),
        with_register(MOVE_REGISTER, ACCESS, TYPE),
        with_value(AND, TYPE, 0xffff),
        with_value(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        with_value(MOVE, ALLOWED, i32::from(start)),
    ];
    for rule in &rules[last.map_or(0, |at| at + 1)..] {
        if let Rule::Some { allow, devices, access } = rule {
            push_rule(&mut program, *allow, devices, *access);
        }
    }
    program.extend([
        with_value(XOR, ALLOWED, i32::from(ALL)),
        with_register(AND_REGISTER, ACCESS, ALLOWED),
        with_value(MOVE, RESULT, 1),
        jump(JUMP_IF_EQUAL, ACCESS, 0, 1),
        with_value(MOVE, RESULT, 0),
        BpfInstruction { code: EXIT, registers: 0, offset: 0, immediate: 0 },
    ]);
    Ok(program)
}

fn push_rule(program: &mut Vec<BpfInstruction>, allow: bool, devices: &Devices, access: u8) {
    let kind = match devices.kind {
        Kind::Block => 1,
        Kind::Character => 2,
    };
    let tests =
        [Some((TYPE, kind)), devices.major.map(|major| (MAJOR, major)), devices.minor.map(|minor| (MINOR, minor))];
    let tests: Vec<_> = tests.into_iter().flatten().collect();
    for (at, (register, value)) in tests.iter().enumerate() {
        // Over the tests that follow and the change itself.
        let over = (tests.len() - at) as i16;
        program.push(jump(JUMP_UNLESS_EQUAL_32, *register, *value as i32, over));
    }
    program.push(match allow {
        true => with_value(OR, ALLOWED, i32::from(access)),
        false => with_value(AND, ALLOWED, i32::from(ALL & !access)),
    });
}

fn load(register: u8, offset: i16) -> BpfInstruction {
    BpfInstruction { code: LOAD_WORD, registers: register | CONTEXT << 4, offset, immediate: 0 }
}

fn with_register(code: u8, target: u8, source: u8) -> BpfInstruction {
    BpfInstruction { code, registers: target | source << 4, offset: 0, immediate: 0 }
}

fn with_value(code: u8, target: u8, immediate: i32) -> BpfInstruction {
    BpfInstruction { code, registers: target, offset: 0, immediate }
}

fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> BpfInstruction {
    BpfInstruction { code, registers: register, offset, immediate }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::device::{MKNOD, READ, WRITE, base_device_rules};

    /// Runs a program on what the kernel would ask.
    fn allows(program: &[BpfInstruction], kind: u32, major: u32, minor: u32, access: u8) -> bool {
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let BpfInstruction { code, registers: pair, offset, immediate } = program[at];
            let (target, source) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            let value = immediate as i64 as u64;
            match code {
                LOAD_WORD => {
                    let words = [kind | u32::from(access) << 16, major, minor];
                    registers[target] = u64::from(words[offset as usize / 4]);
                }
                MOVE => registers[target] = value,
                MOVE_REGISTER => registers[target] = registers[source],
                AND => registers[target] &= value,
                AND_REGISTER => registers[target] &= registers[source],
                OR => registers[target] |= value,
                XOR => registers[target] ^= value,
                SHIFT_RIGHT => registers[target] >>= value,
                JUMP_IF_EQUAL if registers[target] == value => at += offset as usize,
                JUMP_UNLESS_EQUAL_32 if registers[target] as u32 != immediate as u32 => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL_32 => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// The rules' meaning, said plainly: for each access the last rule that speaks of it.
    fn means(rules: &[LinuxDeviceCgroup], kind: &str, major: u32, minor: u32, access: u8) -> bool {
        let number = |rule: Option<i64>, real: u32| rule.is_none_or(|rule| rule == i64::from(real));
        let letter = |bit| ["m", "r", "w"][[MKNOD, READ, WRITE].iter().position(|known| *known == bit).expect("a bit")];
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let speaks = |rule: &&LinuxDeviceCgroup| {
                let is_all = rule.kind.is_empty() || rule.kind == "a";
                let is_access = rule.access.is_empty() || rule.access.contains(letter(bit));
                is_all || (rule.kind == kind && number(rule.major, major) && number(rule.minor, minor) && is_access)
            };
            rules.iter().rfind(speaks).is_some_and(|rule| rule.allow)
        })
    }

    fn any_rule() -> impl Strategy<Value = LinuxDeviceCgroup> {
        let numbers = prop::option::of(prop::sample::select(&[0_i64, 1, 5, 0xffff_ffff][..]));
        (any::<bool>(), prop::sample::select(&["", "a", "b", "c", "c"][..]), numbers.clone(), numbers, "[rwm]{0,3}")
            .prop_map(|(allow, kind, major, minor, access)| LinuxDeviceCgroup {
                allow,
                kind: kind.to_owned(),
                major,
                minor,
                access,
            })
    }

    proptest! {
        #[test]
        fn a_program_means_what_its_rules_say(rules in prop::collection::vec(any_rule(), 0..8)) {
            let program = device_program(&rules).expect("sound rules");
            for (code, kind) in [(1, "b"), (2, "c")] {
                for major in [0, 1, 5, 7, u32::MAX] {
                    for minor in [0, 1, 5, 7, u32::MAX] {
                        for access in 1..=7 {
                            let got = allows(&program, code, major, minor, access);
                            prop_assert_eq!(got, means(&rules, kind, major, minor, access), "{} {}:{} {}", kind, major, minor, access);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_base_rules_allow_null_and_not_memory() {
        let program = device_program(&base_device_rules()).expect("sound rules");
        assert!(allows(&program, 2, 1, 3, READ | WRITE));
        assert!(allows(&program, 2, 136, 7, READ | WRITE));
        assert!(!allows(&program, 2, 1, 1, READ));
        assert!(allows(&program, 2, 1, 1, MKNOD));
        assert!(!allows(&program, 1, 8, 0, READ));
    }

    #[test]
    fn root_the_kernels_verifier_takes_the_programs() {
        let mut many: Vec<LinuxDeviceCgroup> = (0..300)
            .map(|minor| LinuxDeviceCgroup {
                allow: minor % 3 != 0,
                kind: if minor % 2 == 0 { "c" } else { "b" }.to_owned(),
                major: Some(0xffff_ffff - minor % 7),
                minor: Some(minor),
                access: ["r", "w", "m", "rw", "rwm"][minor as usize % 5].to_owned(),
            })
            .collect();
        many.extend(base_device_rules());
        for rules in [vec![], base_device_rules(), many] {
            let program = device_program(&rules).expect("sound rules");
            carrack_sys::bpf::load_device_program(&program).expect("the verifier's consent");
        }
    }
}
