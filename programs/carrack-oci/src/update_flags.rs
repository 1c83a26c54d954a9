//! The limits that `update` sets by flags.

use std::num::IntErrorKind;
use std::str::FromStr;

use carrack_oci_config::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::arguments::{Flag, Parsed, value};

/// The flags of `update`.
pub const FLAGS: &[Flag] = &[
    value("resources", Some('r')),
    value("blkio-weight", None),
    value("cpu-period", None),
    value("cpu-quota", None),
    value("cpu-burst", None),
    value("cpu-share", None),
    value("cpu-rt-period", None),
    value("cpu-rt-runtime", None),
    value("cpu-idle", None),
    value("cpuset-cpus", None),
    value("cpuset-mems", None),
    value("memory", None),
    value("memory-reservation", None),
    value("memory-swap", None),
    value("kernel-memory", None),
    value("kernel-memory-tcp", None),
    value("pids-limit", None),
    value("l3-cache-schema", None),
    value("mem-bw-schema", None),
];

/// What the flags say; the errors are in runc's words.
pub fn resources(flags: &Parsed) -> Result<LinuxResources, String> {
    let text = |name| flags.value(name).unwrap_or_default().to_owned();
    Ok(LinuxResources {
        memory: Some(LinuxMemory {
            limit: bytes(flags, "memory")?,
            reservation: bytes(flags, "memory-reservation")?,
            swap: bytes(flags, "memory-swap")?,
            kernel: bytes(flags, "kernel-memory")?,
            kernel_tcp: bytes(flags, "kernel-memory-tcp")?,
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: number(flags, "cpu-share")?,
            quota: number(flags, "cpu-quota")?,
            burst: number(flags, "cpu-burst")?,
            period: number(flags, "cpu-period")?,
            realtime_runtime: number(flags, "cpu-rt-runtime")?,
            realtime_period: number(flags, "cpu-rt-period")?,
            cpus: text("cpuset-cpus"),
            mems: text("cpuset-mems"),
            idle: number(flags, "cpu-idle")?,
        }),
        pids: number(flags, "pids-limit")?.map(|limit| LinuxPids { limit: Some(limit) }),
        block_io: number(flags, "blkio-weight")?
            .map(|weight| LinuxBlockIo { weight: Some(weight), ..LinuxBlockIo::default() }),
        ..LinuxResources::default()
    })
}

/// What is taken and has no effect.
pub fn ignored(resources: &LinuxResources) -> Option<&'static str> {
    let memory = resources.memory.as_ref()?;
    (memory.kernel.or(memory.kernel_tcp).is_some()).then_some("Kernel memory settings are ignored and will be removed")
}

/// What this runtime does not have.
pub fn refuse_unoffered(flags: &Parsed) -> Result<(), String> {
    for (name, what) in [
        ("l3-cache-schema", "Intel RDT/CAT: l3 cache schema is not enabled"),
        ("mem-bw-schema", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ] {
        if flags.value(name).is_some_and(|value| !value.is_empty()) {
            return Err(format!("--{name}: {what}: it is not supported here"));
        }
    }
    Ok(())
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(flags: &Parsed, name: &str) -> Result<Option<T>, String> {
    let Some(text) = flags.value(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("invalid value for {name}: parsing {text:?}: {why}")
    })
}

fn bytes(flags: &Parsed, name: &str) -> Result<Option<i64>, String> {
    match flags.value(name) {
        None | Some("") => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => match size(text) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(format!("invalid value for {name}: invalid size: '{text}'")),
        },
    }
}

/// A number with an optional unit of powers of 1024: `1048576`, `40m`, `1.5 GiB`.
fn size(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    // Whole numbers stay exact.
    match number.parse::<i64>() {
        Ok(number) => number.checked_mul(1 << power),
        Err(_) => number.parse::<f64>().ok().map(|number| number * (1_u64 << power) as f64).map(|bytes| bytes as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::After;

    #[test]
    fn sizes_have_units_of_powers_of_1024() {
        for (text, want) in [
            ("0", Some(0)),
            ("1048577", Some(1_048_577)),
            ("40m", Some(40 << 20)),
            ("40MB", Some(40 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("1.5k", Some(1536)),
            ("10b", Some(10)),
            ("", None),
            ("m", None),
            ("-2", None),
            ("4x", None),
            ("1ib", None),
            ("1,5k", None),
            ("99999999999p", None),
        ] {
            assert_eq!(size(text), want, "{text}");
        }
    }

    fn resources_of(line: &str) -> Result<LinuxResources, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        resources(&Parsed::parse(&words, FLAGS, After::Flags).map_err(|error| error.0)?)
    }

    #[test]
    fn flags_become_limits() {
        let resources = resources_of(
            "--memory 40m --memory-swap=-1 --cpu-quota -1 --cpu-share 7 --pids-limit 9 --blkio-weight 300 c",
        );
        let resources = resources.unwrap();
        let memory = resources.memory.unwrap();
        assert_eq!((memory.limit, memory.swap, memory.reservation), (Some(40 << 20), Some(-1), None));
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.shares, cpu.period), (Some(-1), Some(7), None));
        assert_eq!(resources.pids.unwrap().limit, Some(9));
        assert_eq!(resources.block_io.unwrap().weight, Some(300));
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for (line, text) in [
            ("--cpu-share x c", "invalid value for cpu-share: parsing \"x\": invalid syntax"),
            ("--cpu-period -1 c", "invalid value for cpu-period: parsing \"-1\": invalid syntax"),
            ("--blkio-weight 70000 c", "invalid value for blkio-weight: parsing \"70000\": value out of range"),
            ("--memory lots c", "invalid value for memory: invalid size: 'lots'"),
        ] {
            assert_eq!(resources_of(line).unwrap_err(), text);
        }
    }
}
