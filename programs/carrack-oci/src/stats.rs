//! What a container uses, in the form of runc's events.
//!
//! Names and units are those of cgroup version 1; what version 2 counts in another way is put so. What is zero is mostly left out, as there.

use carrack_cgroup::Group;
use serde_json::{Map, Value, json};

/// Nanoseconds in a microsecond.
const NSEC_IN_USEC: u64 = 1000;
/// What stands for no limit of version 2.
const NO_LIMIT: u64 = u64::MAX;

/// Everything that can be read now.
pub fn read(group: &Group) -> Value {
    json!({
        "cpu": cpu(group),
        "cpuset": cpuset(group),
        "memory": memory(group),
        "pids": pids(group),
        "blkio": blkio(group),
        "hugetlb": hugetlb(group),
        "intel_rdt": {},
        // runc tells only of interfaces that it made itself, and it makes none.
        "network_interfaces": null,
    })
}

/// An object that is filled by and by.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Leaves it out where it says nothing.
    fn put_some(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.put(name, value);
        }
    }

    fn put_list<T: Into<Value>>(&mut self, name: &str, list: Vec<T>) {
        if !list.is_empty() {
            self.put(name, list);
        }
    }

    fn put_pressure(&mut self, group: &Group, controllers: [&str; 2], file: &str) {
        let text = group.text(controllers, ["", file]).unwrap_or_default();
        let lines: Map<String, Value> = text.lines().filter_map(pressure).collect();
        if !lines.is_empty() {
            self.put("psi", lines);
        }
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Value::Object(fields.0)
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn pressure(line: &str) -> Option<(String, Value)> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let field = |word: &str| {
        let (key, number) = word.split_once('=')?;
        Some((key.to_owned(), serde_json::from_str(number).ok()?))
    };
    Some((name, Value::Object(words.filter_map(field).collect())))
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Lines of the form `word number`.
fn words(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (word, number) = line.split_once(' ')?;
        Some((word, number.trim().parse().ok()?))
    })
}

fn word(text: &str, name: &str) -> u64 {
    words(text).find(|(word, _)| *word == name).map_or(0, |(_, number)| number)
}

fn cpu(group: &Group) -> Value {
    let accounts = |file| group.text(["cpuacct", "-"], [file, ""]);
    let stat = group.text(["cpu"; 2], ["cpu.stat"; 2]).unwrap_or_default();
    let mut usage = Fields::default();
    let (total, kernel, user) = match accounts("cpuacct.usage") {
        Some(total) => {
            let every = |line: &str, column: usize| {
                line.split_whitespace().nth(column).and_then(|text| text.parse::<u64>().ok())
            };
            let all = accounts("cpuacct.usage_all").unwrap_or_default();
            let column = |column| all.lines().skip(1).filter_map(|line| every(line, column)).collect::<Vec<u64>>();
            let percpu = accounts("cpuacct.usage_percpu").unwrap_or_default();
            usage.put_list("percpu", percpu.split_whitespace().filter_map(|text| text.parse::<u64>().ok()).collect());
            usage.put_list("percpu_user", column(1));
            usage.put_list("percpu_kernel", column(2));
            (number(Some(total)), number(accounts("cpuacct.usage_sys")), number(accounts("cpuacct.usage_user")))
        }
        None => {
            let [total, kernel, user] =
                ["usage_usec", "system_usec", "user_usec"].map(|name| word(&stat, name) * NSEC_IN_USEC);
            (total, kernel, user)
        }
    };
    usage.put_some("total", total);
    usage.put("kernel", kernel);
    usage.put("user", user);
    let mut throttling = Fields::default();
    throttling.put_some("periods", word(&stat, "nr_periods"));
    throttling.put_some("throttledPeriods", word(&stat, "nr_throttled"));
    // Version 1 and 2 have different units, and names.
    let time = word(&stat, "throttled_time") + word(&stat, "throttled_usec") * NSEC_IN_USEC;
    throttling.put_some("throttledTime", time);
    let mut cpu = Fields::default();
    cpu.put("usage", usage);
    cpu.put("throttling", throttling);
    cpu.put_pressure(group, ["-", "cpu"], "cpu.pressure");
    cpu.into()
}

/// Version 2 has no such counters.
fn cpuset(group: &Group) -> Value {
    let text = |file: &str| group.text(["cpuset", "-"], [file, ""]);
    let mut cpuset = Fields::default();
    cpuset.put_list("cpus", list(&text("cpuset.cpus").unwrap_or_default()));
    cpuset.put_list("mems", list(&text("cpuset.mems").unwrap_or_default()));
    for name in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
    ] {
        cpuset.put(name, number(text(&format!("cpuset.{name}"))));
    }
    let level = text("cpuset.sched_relax_domain_level").and_then(|text| text.trim().parse::<i64>().ok());
    cpuset.put("sched_relax_domain_level", level.unwrap_or(0));
    cpuset.into()
}

/// `0-2,4`
fn list(text: &str) -> Vec<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u64>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// One kind of memory.
#[derive(Default)]
struct Entry {
    limit: u64,
    usage: u64,
    max: u64,
    failures: u64,
}

impl From<Entry> for Value {
    fn from(entry: Entry) -> Self {
        let mut fields = Fields::default();
        fields.put("limit", entry.limit);
        fields.put_some("usage", entry.usage);
        fields.put_some("max", entry.max);
        fields.put("failcnt", entry.failures);
        fields.into()
    }
}

fn memory(group: &Group) -> Value {
    let text = |names| group.text(["memory"; 2], names);
    let raw = text(["memory.stat"; 2]).unwrap_or_default();
    let is_unified = text(["", "memory.current"]).is_some();
    let [usage, swap, kernel, tcp] = if is_unified {
        unified_memory(group)
    } else {
        ["", ".memsw", ".kmem", ".kmem.tcp"].map(|kind| {
            let read = |what| number(group.text(["memory"; 2], [&format!("memory{kind}.{what}"), ""]));
            Entry {
                limit: read("limit_in_bytes"),
                usage: read("usage_in_bytes"),
                max: read("max_usage_in_bytes"),
                failures: read("failcnt"),
            }
        })
    };
    let mut memory = Fields::default();
    memory.put_some("cache", word(&raw, if is_unified { "file" } else { "total_cache" }));
    for (name, entry) in [("usage", usage), ("swap", swap), ("kernel", kernel), ("kernelTCP", tcp)] {
        memory.put(name, entry);
    }
    let raw: Map<String, Value> = words(&raw).map(|(word, number)| (word.to_owned(), number.into())).collect();
    if !raw.is_empty() {
        memory.put("raw", raw);
    }
    memory.put_pressure(group, ["-", "memory"], "memory.pressure");
    memory.into()
}

/// Version 2 counts swap alone; version 1, and so runc, counts it with memory. Kernel memory is part of the whole there.
fn unified_memory(group: &Group) -> [Entry; 4] {
    let text = |name: &str| group.text(["memory"; 2], ["", name]);
    let entry = |kind: &str| {
        let limit = text(&format!("memory{kind}.max")).map(|text| text.trim().parse().unwrap_or(NO_LIMIT));
        Entry {
            limit: limit.unwrap_or(0),
            usage: number(text(&format!("memory{kind}.current"))),
            max: number(text(&format!("memory{kind}.peak"))),
            failures: word(&text(&format!("memory{kind}.events")).unwrap_or_default(), "max"),
        }
    };
    let (usage, alone) = (entry(""), entry(".swap"));
    let swap = Entry {
        limit: alone.limit.saturating_add(usage.limit),
        usage: alone.usage + usage.usage,
        max: alone.max + usage.max,
        failures: alone.failures,
    };
    [usage, swap, Entry::default(), Entry::default()]
}

fn pids(group: &Group) -> Value {
    let read = |name| number(group.text(["pids"; 2], [name; 2]));
    let mut pids = Fields::default();
    pids.put_some("current", read("pids.current"));
    // No number is no limit.
    pids.put_some("limit", read("pids.max"));
    pids.into()
}

/// runc's names, and the files of version 1; those of BFQ count where that is the scheduler, else the throttling layer's do.
const BLOCK: [(&str, [&str; 2]); 7] = [
    ("ioServiceBytesRecursive", ["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"]),
    ("ioServicedRecursive", ["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"]),
    ("ioQueueRecursive", ["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"]),
    ("ioServiceTimeRecursive", ["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"]),
    ("ioWaitTimeRecursive", ["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"]),
    ("ioMergedRecursive", ["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"]),
    ("ioTimeRecursive", ["blkio.bfq.time_recursive", "blkio.time_recursive"]),
];
/// The words of `io.stat` that version 1 has too, with the list and the operation there.
const UNIFIED_BLOCK: [(&str, &str, &str); 4] = [
    ("rbytes", "ioServiceBytesRecursive", "Read"),
    ("wbytes", "ioServiceBytesRecursive", "Write"),
    ("rios", "ioServicedRecursive", "Read"),
    ("wios", "ioServicedRecursive", "Write"),
];

fn blkio(group: &Group) -> Value {
    let mut fields = Fields::default();
    for (name, files) in BLOCK {
        let entries = files.iter().find_map(|file| {
            let text = group.text(["blkio", "-"], [file, ""])?;
            let entries: Vec<Value> = text.lines().filter_map(block_entry).collect();
            (!entries.is_empty()).then_some(entries)
        });
        fields.put_list(name, entries.unwrap_or_default());
    }
    let text = group.text(["-", "io"], ["", "io.stat"]).unwrap_or_default();
    for name in ["ioServiceBytesRecursive", "ioServicedRecursive"] {
        let entries: Vec<Value> = text.lines().flat_map(|line| unified_entries(line, name)).collect();
        fields.put_list(name, entries);
    }
    fields.put_pressure(group, ["-", "io"], "io.pressure");
    fields.into()
}

/// `8:0 Read 5`, or `8:0 5`; a line with the sum of all devices has no device.
fn block_entry(line: &str) -> Option<Value> {
    let mut words = line.split_whitespace();
    let device = words.next()?;
    let (operation, value) = match (words.next()?, words.next()) {
        (value, None) => ("", value),
        (operation, Some(value)) => (operation, value),
    };
    entry(device, operation, value.parse().ok()?)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn unified_entries(line: &str, name: &str) -> Vec<Value> {
    let mut words = line.split_whitespace();
    let device = words.next().unwrap_or_default();
    words
        .filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            let (_, _, operation) = UNIFIED_BLOCK.iter().find(|(known, list, _)| *known == key && *list == name)?;
            entry(device, operation, value.parse().ok()?)
        })
        .collect()
}

fn entry(device: &str, operation: &str, value: u64) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let mut fields = Fields::default();
    fields.put_some("major", major.parse().ok()?);
    fields.put_some("minor", minor.parse().ok()?);
    if !operation.is_empty() {
        fields.put("op", operation);
    }
    fields.put_some("value", value);
    Some(fields.into())
}

fn hugetlb(group: &Group) -> Value {
    let mut sizes = Fields::default();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let Some(size) = entry.file_name().to_str().and_then(page_size) else { continue };
        let read = |v1: &str, v2: &str| {
            group.text(["hugetlb"; 2], [&format!("hugetlb.{size}.{v1}"), &format!("hugetlb.{size}.{v2}")])
        };
        let Some(usage) = read("usage_in_bytes", "current") else { continue };
        let mut fields = Fields::default();
        fields.put_some("usage", number(Some(usage)));
        fields.put_some("max", number(read("max_usage_in_bytes", "")));
        let failures = number(read("failcnt", "")) + word(&read("", "events").unwrap_or_default(), "max");
        fields.put("failcnt", failures);
        sizes.put(&size, fields);
    }
    sizes.into()
}

/// `hugepages-2048kB` as the files of the controller spell it: `2MB`.
fn page_size(directory: &str) -> Option<String> {
    let kilobytes: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes / 1024),
        _ => format!("{}GB", kilobytes / 1_048_576),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_spelled_out() {
        for (text, want) in [("0-2,4\n", vec![0, 1, 2, 4]), ("3", vec![3]), ("", vec![]), ("x", vec![])] {
            assert_eq!(list(text), want, "{text}");
        }
    }

    #[test]
    fn pressure_is_numbers_by_name() {
        let (name, value) = pressure("some avg10=1.50 avg60=0.00 avg300=0.10 total=7").unwrap();
        assert_eq!((name.as_str(), value), ("some", json!({"avg10": 1.5, "avg60": 0.0, "avg300": 0.1, "total": 7})));
    }

    #[test]
    fn devices_of_both_versions_look_the_same() {
        assert_eq!(block_entry("8:16 Read 5"), Some(json!({"major": 8, "minor": 16, "op": "Read", "value": 5})));
        assert_eq!(block_entry("8:0 7"), Some(json!({"major": 8, "value": 7})));
        assert_eq!(block_entry("Total 7"), None);
        let line = "8:16 rbytes=5 wbytes=0 rios=2 wios=3 dbytes=9 dios=9";
        assert_eq!(
            unified_entries(line, "ioServicedRecursive"),
            [
                json!({"major": 8, "minor": 16, "op": "Read", "value": 2}),
                json!({"major": 8, "minor": 16, "op": "Write", "value": 3})
            ]
        );
    }

    #[test]
    fn page_sizes_are_spelled_as_the_controller_does() {
        for (directory, want) in [
            ("hugepages-2048kB", Some("2MB")),
            ("hugepages-1048576kB", Some("1GB")),
            ("hugepages-64kB", Some("64KB")),
            ("x", None),
        ] {
            assert_eq!(page_size(directory).as_deref(), want, "{directory}");
        }
    }
}
