//! Runs classic BPF as the kernel does, and checks on the way what the kernel checks when it loads a program.

use carrack_seccomp::SockFilter;

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..=60 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load at offset {offset}"),
        }
    }
}

/// What came out, and how many instructions it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub verdict: u32,
    pub steps: usize,
}

pub fn run(program: &[SockFilter], data: &Data) -> Run {
    let mut accumulator = 0_u32;
    let mut at = 0;
    let mut steps = 0;
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = data.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return Run { verdict: k, steps },
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => panic!("instruction {code:#x} is not one that we write"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

/// As `bpf_check_classic` and `seccomp_check_filter`: known instructions, no way out but a return.
pub fn check(program: &[SockFilter]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            0x20 | 0x54 => 1,
            0x05 => 1 + instruction.k as usize,
            0x06 => 0,
            0x15 | 0x25 | 0x35 | 0x45 => 1 + usize::from(instruction.jt.max(instruction.jf)),
            other => panic!("instruction {other:#x} at {at}"),
        };
        assert!(at + furthest < program.len(), "instruction {at} leads out of the program");
    }
}
