//! Ids and made-up names.

use carrack_sys::rustix::rand::{GetRandomFlags, getrandom};
use carrack_words::ContainerId;

const ADJECTIVES: &[&str] = &[
    "able", "brave", "brisk", "calm", "clever", "deft", "eager", "fleet", "gentle", "hardy", "jolly", "keen", "lively",
    "lucid", "mellow", "merry", "nimble", "noble", "proud", "quiet", "rapid", "sober", "steady", "sturdy", "sunny",
    "swift", "tidy", "trim", "vivid", "warm", "witty", "zesty",
];
const NOUNS: &[&str] = &[
    "anchor", "barque", "beacon", "bosun", "brig", "buoy", "caravel", "compass", "cutter", "dhow", "ferry", "frigate",
    "galley", "harbour", "helm", "islet", "jib", "keel", "ketch", "lagoon", "lantern", "mast", "oar", "pennant",
    "pilot", "rudder", "sail", "schooner", "sextant", "skiff", "sloop", "tide",
];

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // Fails only before the pool is ready on kernels without the call; both are below our floor.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// 64 random hexadecimal digits.
pub(crate) fn random_hex() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new container id.
pub(crate) fn container_id() -> ContainerId {
    ContainerId::new(random_hex()).expect("hexadecimal digits are legal in ids")
}

/// A name that people can say, like `steady_keel`; with a number when `attempt` shows that those are getting scarce.
pub(crate) fn made_up(attempt: u32) -> String {
    let [first, second, third] = random::<3>();
    let adjective = ADJECTIVES[usize::from(first) % ADJECTIVES.len()];
    let noun = NOUNS[usize::from(second) % NOUNS.len()];
    match attempt {
        0..=3 => format!("{adjective}_{noun}"),
        _ => format!("{adjective}_{noun}{}", u32::from(third) + 256 * attempt),
    }
}
