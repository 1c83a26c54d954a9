//! Settings as cgroup version 1 takes them.
//!
//! 0 means unset in limits of memory and CPU, as it does to runc, whose callers fill the fields they do not use so.

use carrack_oci_config::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxThrottleDevice};

use crate::error::PlanError;
use crate::plan::{Choice, Step};

type Steps = Result<Vec<Step>, PlanError>;

/// A value that is there and not 0.
pub(crate) fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Bytes, or -1 for no limit.
pub(crate) fn bytes(setting: &'static str, value: Option<i64>) -> Result<Option<i64>, PlanError> {
    match given(value) {
        Some(value) if value < -1 => {
            Err(PlanError::Invalid { setting, value: value.to_string(), reason: "is neither a size nor -1" })
        }
        other => Ok(other),
    }
}

/// The limits of memory, of memory and swap together, and the soft one; checked against each other.
pub(crate) fn memory_limits(memory: &LinuxMemory) -> Result<[Option<i64>; 3], PlanError> {
    let limit = bytes("linux.resources.memory.limit", memory.limit)?;
    let swap = bytes("linux.resources.memory.swap", memory.swap)?;
    let reservation = bytes("linux.resources.memory.reservation", memory.reservation)?;
    let is_too_low = match (limit, swap) {
        (Some(-1), Some(swap)) => swap != -1,
        (Some(limit), Some(swap)) => swap != -1 && swap < limit,
        _ => false,
    };
    if is_too_low {
        return Err(PlanError::Invalid {
            setting: "linux.resources.memory.swap",
            value: swap.unwrap_or_default().to_string(),
            reason: "is less than the memory limit, which it includes",
        });
    }
    Ok([limit, swap, reservation])
}

pub(crate) fn memory(memory: &LinuxMemory) -> Steps {
    let [limit, swap, reservation] = memory_limits(memory)?;
    let mut steps = Vec::new();
    if let Some(limit_bytes) = limit.filter(|limit| *limit > 0 && memory.check_before_update == Some(true)) {
        steps.push(Step::CheckUsage { file: "memory.usage_in_bytes", limit_bytes });
    }
    match (limit, swap) {
        (Some(limit_bytes), Some(swap_bytes)) => steps.push(Step::MemoryAndSwap { limit_bytes, swap_bytes }),
        // All the memory there is, and so all the swap; without swap accounting there is no such file and no such limit.
        (Some(-1), None) => {
            steps.push(Step::WriteIfPresent(Choice::new("memory.memsw.limit_in_bytes", -1)));
            steps.push(Step::write("memory.limit_in_bytes", -1));
        }
        (Some(limit), None) => steps.push(Step::write("memory.limit_in_bytes", limit)),
        (None, Some(swap)) => steps.push(Step::write("memory.memsw.limit_in_bytes", swap)),
        (None, None) => {}
    }
    if let Some(reservation) = reservation {
        steps.push(Step::write("memory.soft_limit_in_bytes", reservation));
    }
    if memory.disable_oom_killer == Some(true) {
        steps.push(Step::write("memory.oom_control", 1));
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(PlanError::Invalid {
                setting: "linux.resources.memory.swappiness",
                value: swappiness.to_string(),
                reason: "is more than 100",
            });
        }
        steps.push(Step::write("memory.swappiness", swappiness));
    }
    if let Some(is_hierarchical) = memory.use_hierarchy {
        steps.push(Step::write("memory.use_hierarchy", u8::from(is_hierarchical)));
    }
    Ok(steps)
}

pub(crate) fn cpu(cpu: &LinuxCpu) -> Steps {
    let mut steps = Vec::new();
    if let Some(shares) = given(cpu.shares) {
        // The kernel clamps to 2..=262144 by itself.
        steps.push(Step::write("cpu.shares", shares));
    }
    let bandwidth = [
        cpu.burst.map(|burst| Choice::new("cpu.cfs_burst_us", burst)),
        given(cpu.period).map(|period| Choice::new("cpu.cfs_period_us", period)),
        given(cpu.quota).map(|quota| Choice::new("cpu.cfs_quota_us", quota.max(-1))),
    ];
    push_together(&mut steps, bandwidth);
    if let Some(idle) = cpu.idle {
        steps.push(Step::write("cpu.idle", idle));
    }
    let realtime = [
        given(cpu.realtime_period).map(|period| Choice::new("cpu.rt_period_us", period)),
        given(cpu.realtime_runtime).map(|runtime| Choice::new("cpu.rt_runtime_us", runtime)),
    ];
    push_together(&mut steps, realtime);
    Ok(steps)
}

pub(crate) fn push_together<const N: usize>(steps: &mut Vec<Step>, choices: [Option<Choice>; N]) {
    let mut choices: Vec<Choice> = choices.into_iter().flatten().collect();
    match choices.len() {
        0 => {}
        1 => steps.extend(choices.pop().map(Step::Write)),
        _ => steps.push(Step::WriteTogether(choices)),
    }
}

pub(crate) fn block_io(block_io: &LinuxBlockIo) -> Steps {
    let mut steps = Vec::new();
    // One file or the other, by the I/O scheduler that the kernel is built with.
    let weight = |suffix: &str, value: String| {
        Step::WriteFirst(vec![
            Choice::new(format!("blkio.weight{suffix}"), &value),
            Choice::new(format!("blkio.bfq.weight{suffix}"), &value),
        ])
    };
    if let Some(default) = given(block_io.weight) {
        steps.push(weight("", default.to_string()));
    }
    if let Some(leaf) = given(block_io.leaf_weight) {
        steps.push(Step::write("blkio.leaf_weight", leaf));
    }
    for device in &block_io.weight_device {
        if let Some(value) = given(device.weight) {
            steps.push(weight("_device", format!("{}:{} {value}", device.major, device.minor)));
        }
        if let Some(value) = given(device.leaf_weight) {
            steps.push(Step::write("blkio.leaf_weight_device", format!("{}:{} {value}", device.major, device.minor)));
        }
    }
    let throttles: [(&'static str, &[LinuxThrottleDevice]); 4] = [
        ("blkio.throttle.read_bps_device", &block_io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block_io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block_io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block_io.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        let line = |device: &LinuxThrottleDevice| format!("{}:{} {}", device.major, device.minor, device.rate);
        steps.extend(devices.iter().map(|device| Step::write(file, line(device))));
    }
    Ok(steps)
}

pub(crate) fn network_priorities(network: &LinuxNetwork) -> Steps {
    network
        .priorities
        .iter()
        .map(|priority| {
            if priority.name.is_empty() || priority.name.contains(char::is_whitespace) {
                return Err(PlanError::Invalid {
                    setting: "linux.resources.network.priorities",
                    value: priority.name.clone(),
                    reason: "is no name of an interface",
                });
            }
            Ok(Step::write("net_prio.ifpriomap", format!("{} {}", priority.name, priority.priority)))
        })
        .collect()
}
