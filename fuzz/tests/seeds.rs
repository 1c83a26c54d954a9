//! Every kept input, and variants of it that are the same in every run.

use std::fs;
use std::path::Path;

use carrack_fuzz::{TARGETS, Target};
use serde_json::{Value, json};

/// Of each seed. A search without end is `cargo xtask fuzz`.
const VARIANTS: u64 = 1500;

/// A generator that is the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let mut files: Vec<_> =
        fs::read_dir(directory).expect("each target has seeds").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Bytes changed, cut, doubled, or taken from another seed.
fn garbled(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = [0, 0xff, b'0', b'/', b'"', b'\\'][dice.roll(6)],
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..(at + dice.roll(600)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = dice.roll(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

/// One value somewhere in it is another.
fn twisted(value: &mut Value, dice: &mut Dice) {
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => vec![],
    };
    let count = inner.len();
    if count > 0 && dice.roll(5) > 0 {
        let chosen = inner.into_iter().nth(dice.roll(count)).expect("it is one of them");
        return twisted(chosen, dice);
    }
    let text = |text: &str| Value::String(text.to_owned());
    let replacements = [
        Value::Null,
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!([[[{}]]]),
        text(""),
        text("/"),
        text("/../../etc"),
        text("a\u{0}b"),
        text("\u{202e}\n"),
        text("SCMP_ACT_NOTIFY"),
        text("rbind"),
        Value::String("x".repeat(5000)),
        value.clone(),
    ];
    let chosen = dice.roll(replacements.len());
    let new = replacements[chosen].clone();
    match value {
        Value::Array(items) if dice.roll(2) == 0 => items.push(new),
        _ => *value = new,
    }
}

#[test]
fn kept_inputs_and_their_variants_do_no_harm() {
    for target in TARGETS {
        let seeds = seeds(&target);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for (number, seed) in seeds.iter().enumerate() {
            (target.feed)(seed);
            let parsed: Option<Value> = if target.is_json { serde_json::from_slice(seed).ok() } else { None };
            for _ in 0..VARIANTS {
                let input = match &parsed {
                    Some(value) if dice.roll(3) > 0 => {
                        let mut value = value.clone();
                        for _ in 0..=dice.roll(3) {
                            twisted(&mut value, &mut dice);
                        }
                        value.to_string().into_bytes()
                    }
                    _ => garbled(seed, &seeds[(number + 1) % seeds.len()], &mut dice),
                };
                (target.feed)(&input);
            }
        }
    }
}
