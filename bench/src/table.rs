//! Prints what was measured, with our figure, the peers', and the ratio against the target.

use std::time::Duration;

use crate::measure::Contender;

/// What our figure shall be at most, as a share of a peer's.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The peer, by its name in the race.
    pub peer: &'static str,
    /// The share.
    pub at_most: f64,
}

/// Prints one race; the first contender is ours.
pub fn print(title: &str, contenders: &[Contender<'_>], targets: &[Target]) {
    println!("\n{title}");
    println!("  {:<24} {:>10} {:>10} {:>10}   ours/this   target", "", "median", "cpu", "peak");
    let Some(ours) = contenders.first() else { return };
    for contender in contenders {
        let ratio = ratio(ours.median(), contender.median());
        let target = targets.iter().find(|target| target.peer == contender.name);
        let verdict = target.map_or(String::new(), |target| {
            format!("<= {:<5.3} {}", target.at_most, if ratio <= target.at_most { "met" } else { "MISSED" })
        });
        println!(
            "  {:<24} {:>10} {:>10} {:>10}   {ratio:>9.3}   {verdict}",
            contender.name,
            milliseconds(contender.median()),
            milliseconds(contender.cpu()),
            megabytes(contender.peak_bytes()),
        );
    }
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)
}

fn milliseconds(time: Duration) -> String {
    if time.is_zero() { "-".into() } else { format!("{:.2} ms", time.as_secs_f64() * 1e3) }
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or("-".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6))
}
