//! What a group uses.

use crate::error::CgroupError;
use crate::file::{field, parse_number};
use crate::group::{Group, Member};
use crate::host::Version;

/// What a group uses; a part is absent where no controller counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Time on processors.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<IoStats>,
}

/// Time on processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All time.
    pub usage_nsec: u64,
    /// In programs.
    pub user_nsec: u64,
    /// In the kernel.
    pub system_nsec: u64,
    /// Periods in which a quota held.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// Time lost by that.
    pub throttled_nsec: u64,
}

/// Memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Everything charged to the group, page cache included.
    pub usage_bytes: u64,
    /// The highest [`Self::usage_bytes`], where the kernel keeps it.
    pub peak_bytes: Option<u64>,
    /// Absent means no limit.
    pub limit_bytes: Option<u64>,
    /// Usage less the page cache that nobody touches: what the kubelet evicts by.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub anonymous_bytes: u64,
    /// Page cache.
    pub file_bytes: u64,
    /// Swapped out.
    pub swap_bytes: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to wait for a disk.
    pub major_page_faults: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Threads included.
    pub current: u64,
    /// Absent means no limit.
    pub limit: Option<u64>,
}

/// Block devices, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Version 1 says "no limit" as the largest number of pages there can be.
const V1_NO_LIMIT: u64 = i64::MAX as u64 / 4096 * 4096;

pub(crate) fn oom_kill_count(group: &Group) -> Result<Option<u64>, CgroupError> {
    let Some((member, version)) = group.with_controller(["memory", "memory"]) else { return Ok(None) };
    let text = match version {
        Version::V1 => member.read(&group.host, "memory.oom_control")?,
        // The file is missing if the controller could not be handed down.
        Version::V2 => match optional(member.read(&group.host, "memory.events"))? {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    Ok(field(&text, "oom_kill"))
}

pub(crate) fn read(group: &Group) -> Result<Stats, CgroupError> {
    let place = |names| group.with_controller(names);
    let reader = |(member, version)| Reader { group, member, version };
    Ok(Stats {
        // Time is counted by cpuacct in version 1 and by every group of version 2.
        cpu: group_cpu(group)?,
        memory: place(["memory"; 2]).map(|found| reader(found).memory()).transpose()?.flatten(),
        pids: place(["pids"; 2]).map(|found| reader(found).pids()).transpose()?.flatten(),
        io: place(["blkio", "io"]).map(|found| reader(found).io()).transpose()?.flatten(),
    })
}

fn group_cpu(group: &Group) -> Result<Option<CpuStats>, CgroupError> {
    let unified = group.members.iter().find(|member| group.host.hierarchy(member.hierarchy).version == Version::V2);
    match (group.with_controller(["cpuacct", "cpu"]), unified) {
        (Some((accounts, Version::V1)), _) => v1_cpu(group, accounts).map(Some),
        (_, Some(member)) => {
            let text = member.read(&group.host, "cpu.stat")?;
            let nsec = |word| field(&text, word).unwrap_or(0) * 1000;
            Ok(Some(CpuStats {
                usage_nsec: nsec("usage_usec"),
                user_nsec: nsec("user_usec"),
                system_nsec: nsec("system_usec"),
                periods: field(&text, "nr_periods").unwrap_or(0),
                throttled_periods: field(&text, "nr_throttled").unwrap_or(0),
                throttled_nsec: nsec("throttled_usec"),
            }))
        }
        _ => Ok(None),
    }
}

fn v1_cpu(group: &Group, accounts: &Member) -> Result<CpuStats, CgroupError> {
    // Absent before Linux 4.8 only.
    let user_nsec = accounts.number(&group.host, "cpuacct.usage_user")?;
    let system_nsec = accounts.number(&group.host, "cpuacct.usage_sys")?;
    let mut stats = CpuStats {
        usage_nsec: accounts.number(&group.host, "cpuacct.usage")?,
        user_nsec,
        system_nsec,
        ..CpuStats::default()
    };
    if let Some((bandwidth, Version::V1)) = group.with_controller(["cpu", "cpu"]) {
        let text = bandwidth.read(&group.host, "cpu.stat")?;
        stats.periods = field(&text, "nr_periods").unwrap_or(0);
        stats.throttled_periods = field(&text, "nr_throttled").unwrap_or(0);
        stats.throttled_nsec = field(&text, "throttled_time").unwrap_or(0);
    }
    Ok(stats)
}

struct Reader<'a> {
    group: &'a Group,
    member: &'a Member,
    version: Version,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, CgroupError> {
        optional(self.member.read(&self.group.host, name))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self.text(name)?.as_deref().and_then(parse_number))
    }

    fn memory(&self) -> Result<Option<MemoryStats>, CgroupError> {
        // Names in version 1 and 2.
        let pick = |names: [&'static str; 2]| names[usize::from(self.version == Version::V2)];
        let Some(text) = self.text("memory.stat")? else { return Ok(None) };
        let Some(usage_bytes) = self.number(pick(["memory.usage_in_bytes", "memory.current"]))? else {
            return Ok(None);
        };
        let count = |names| field(&text, pick(names)).unwrap_or(0);
        let limit = self.number(pick(["memory.limit_in_bytes", "memory.max"]))?;
        let swap_bytes = match self.version {
            Version::V1 => count(["total_swap", ""]),
            Version::V2 => self.number("memory.swap.current")?.unwrap_or(0),
        };
        Ok(Some(MemoryStats {
            usage_bytes,
            peak_bytes: self.number(pick(["memory.max_usage_in_bytes", "memory.peak"]))?,
            limit_bytes: limit.filter(|limit| *limit < V1_NO_LIMIT),
            working_set_bytes: usage_bytes.saturating_sub(count(["total_inactive_file", "inactive_file"])),
            anonymous_bytes: count(["total_rss", "anon"]),
            file_bytes: count(["total_cache", "file"]),
            swap_bytes,
            page_faults: count(["total_pgfault", "pgfault"]),
            major_page_faults: count(["total_pgmajfault", "pgmajfault"]),
            oom_kills: oom_kill_count(self.group)?.unwrap_or(0),
        }))
    }

    fn pids(&self) -> Result<Option<PidsStats>, CgroupError> {
        let Some(current) = self.number("pids.current")? else { return Ok(None) };
        // `max` is no number.
        Ok(Some(PidsStats { current, limit: self.number("pids.max")? }))
    }

    fn io(&self) -> Result<Option<IoStats>, CgroupError> {
        match self.version {
            Version::V2 => Ok(self.text("io.stat")?.map(|text| IoStats {
                read_bytes: sum_keys(&text, "rbytes="),
                written_bytes: sum_keys(&text, "wbytes="),
                reads: sum_keys(&text, "rios="),
                writes: sum_keys(&text, "wios="),
            })),
            Version::V1 => {
                let Some(bytes) = self.text("blkio.throttle.io_service_bytes_recursive")? else { return Ok(None) };
                let counts = self.text("blkio.throttle.io_serviced_recursive")?.unwrap_or_default();
                Ok(Some(IoStats {
                    read_bytes: sum_words(&bytes, "Read"),
                    written_bytes: sum_words(&bytes, "Write"),
                    reads: sum_words(&counts, "Read"),
                    writes: sum_words(&counts, "Write"),
                }))
            }
        }
    }
}

/// `8:0 rbytes=1 wbytes=2 …`
fn sum_keys(text: &str, key: &str) -> u64 {
    text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

/// `8:0 Read 1`
fn sum_words(text: &str, word: &str) -> u64 {
    let number = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        (fields.next()? == word).then_some(())?;
        fields.next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(number).sum()
}

/// A file that the kernel lacks is no error; a group that is gone is.
fn optional(read: Result<String, CgroupError>) -> Result<Option<String>, CgroupError> {
    match read {
        Err(CgroupError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
