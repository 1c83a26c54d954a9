//! Settings as cgroup version 2 takes them, converted from the scales of version 1.

use carrack_oci_config::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxThrottleDevice};

use crate::error::PlanError;
use crate::plan::{Choice, Step};
use crate::v1::{given, memory_limits, push_together};

type Steps = Result<Vec<Step>, PlanError>;

/// What the kernel takes when cpu.max has no period yet.
const NO_QUOTA: &str = "max";

fn missing(setting: &str) -> PlanError {
    PlanError::NotInVersion { setting: format!("linux.resources.{setting}"), version: "v2" }
}

fn bytes(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

pub(crate) fn memory(memory: &LinuxMemory) -> Steps {
    let [limit, swap, reservation] = memory_limits(memory)?;
    if memory.swappiness.is_some() {
        return Err(missing("memory.swappiness"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(missing("memory.disableOOMKiller"));
    }
    if memory.use_hierarchy == Some(false) {
        return Err(missing("memory.useHierarchy false"));
    }
    let mut steps = Vec::new();
    if let Some(limit_bytes) = limit.filter(|limit| *limit > 0 && memory.check_before_update == Some(true)) {
        steps.push(Step::CheckUsage { file: "memory.current", limit_bytes });
    }
    if let Some(swap) = swap_alone(limit, swap)? {
        let choice = Choice::new("memory.swap.max", bytes(swap));
        // Without swap accounting nothing is swapped from the group, and nothing bounds it.
        steps.push(if swap <= 0 { Step::WriteIfPresent(choice) } else { Step::Write(choice) });
    }
    if let Some(limit) = limit {
        steps.push(Step::write("memory.max", bytes(limit)));
    }
    if let Some(reservation) = reservation {
        steps.push(Step::write("memory.low", bytes(reservation)));
    }
    Ok(steps)
}

/// Version 1 limits memory and swap together, version 2 swap alone.
fn swap_alone(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>, PlanError> {
    match (limit, swap) {
        // All the memory there is, and so all the swap.
        (_, Some(-1)) | (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        // The limits are checked: swap is no less than the limit, and the limit not -1.
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
        (None, Some(swap)) => Err(PlanError::Invalid {
            setting: "linux.resources.memory.swap",
            value: swap.to_string(),
            reason: "needs a memory limit beside it",
        }),
    }
}

pub(crate) fn cpu(cpu: &LinuxCpu) -> Steps {
    if given(cpu.realtime_runtime).is_some() || given(cpu.realtime_period).is_some() {
        return Err(missing("cpu.realtimeRuntime and realtimePeriod"));
    }
    let mut steps = Vec::new();
    if let Some(idle) = cpu.idle {
        // Before the weight: an idle group takes none.
        steps.push(Step::write("cpu.idle", idle));
    }
    if let Some(shares) = given(cpu.shares) {
        steps.push(Step::write("cpu.weight", weight(shares)));
    }
    let burst = cpu.burst.map(|burst| Choice::new("cpu.max.burst", burst));
    match (given(cpu.quota), given(cpu.period)) {
        (None, Some(period_usec)) => {
            steps.extend(burst.map(Step::Write));
            steps.push(Step::CpuPeriod { period_usec });
        }
        (quota, period) => {
            let max = quota.map(|quota| {
                let quota = if quota < 0 { NO_QUOTA.to_owned() } else { quota.to_string() };
                Choice::new("cpu.max", period.map_or(quota.clone(), |period| format!("{quota} {period}")))
            });
            push_together(&mut steps, [burst, max]);
        }
    }
    Ok(steps)
}

/// Shares of version 1 (2 to 262144, 1024 by default) as a weight of version 2 (1 to 10000, 100 by default).
///
/// The curve goes through both defaults and both ends; runtimes before 2025 drew a straight line, on which 1024 became 39.
pub(crate) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

pub(crate) fn block_io(block_io: &LinuxBlockIo) -> Steps {
    let has_leaf_weight = given(block_io.leaf_weight).is_some()
        || block_io.weight_device.iter().any(|device| given(device.leaf_weight).is_some());
    if has_leaf_weight {
        return Err(missing("blockIO.leafWeight"));
    }
    let mut steps = Vec::new();
    // BFQ has the scale of version 1; the general file has that of version 2.
    let weight = |prefix: &str, weight: u16| {
        Step::WriteFirst(vec![
            Choice::new("io.bfq.weight", format!("{prefix}{weight}")),
            Choice::new("io.weight", format!("{prefix}{}", io_weight(weight))),
        ])
    };
    if let Some(default) = given(block_io.weight) {
        steps.push(weight("", default));
    }
    for device in &block_io.weight_device {
        if let Some(value) = given(device.weight) {
            steps.push(weight(&format!("{}:{} ", device.major, device.minor), value));
        }
    }
    let throttles: [(&str, &[LinuxThrottleDevice]); 4] = [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            // 0 lifts a limit in version 1; version 2 would take it for one.
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            steps.push(Step::write("io.max", format!("{}:{} {key}={rate}", device.major, device.minor)));
        }
    }
    Ok(steps)
}

/// 10..=1000 onto 1..=10000.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// The controller that a raw file belongs to. The name must be one file's, not a path.
pub(crate) fn controller_of(file: &str) -> Result<&str, PlanError> {
    match file.split_once('.') {
        Some((controller, rest)) if !controller.is_empty() && !rest.is_empty() && !file.contains(['/', '\0', '\n']) => {
            Ok(controller)
        }
        _ => Err(PlanError::Invalid {
            setting: "linux.resources.unified",
            value: file.to_owned(),
            reason: "is no name of a cgroup file",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_by_the_new_curve() {
        let cases =
            [(0, 1), (2, 1), (3, 2), (1024, 100), (2048, 174), (512, 59), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, want) in cases {
            assert_eq!(weight(shares), want, "{shares}");
        }
        assert!((2..262_144).map(weight).is_sorted());
    }

    #[test]
    fn block_weights_reach_both_ends() {
        assert_eq!([io_weight(10), io_weight(500), io_weight(1000)], [1, 4950, 10_000]);
    }
}
