//! What a container looks like from inside, and its cgroups from outside.

use carrack_tests::command::run;
use carrack_tests::node::Node;
use carrack_tests::programs;

/// A script for the container's shell: everything that a program can learn about where it runs.
pub const INSIDE: &str = r#"
show() { echo "=== $1"; shift; "$@" 2>&1; }
for file in status mountinfo cgroup limits attr/current oom_score_adj uid_map gid_map setgroups timerslack_ns coredump_filter personality; do
  show $file cat /proc/$$/$file
done
show id id
show env env
show pwd pwd
show umask umask
show hostname hostname
show links readlink /proc/$$/cwd /proc/$$/root /dev/fd /dev/stdin /dev/ptmx /dev/core
show files sh -c 'for f in /proc/$PPID/fd/*; do echo ${f##*/}; done'
show dev stat -c '%n %A %u:%g %t,%T' /dev /dev/* /dev/pts /dev/shm
show root stat -c '%n %A %u:%g' / /proc /sys /etc /etc/hosts /etc/hostname /tmp
show proc sh -c 'for f in acpi asound kcore keys latency_stats timer_list timer_stats sched_debug scsi sysrq-trigger interrupts; do stat -c "%n %A" /proc/$f; done'
show writes sh -c 'for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper /sys/fs/cgroup/x /proc/sys/net/ipv4/ip_forward; do (: >>$f) 2>&1; done'
show namespaces sh -c 'for n in cgroup ipc mnt net pid user uts time; do [ $(readlink /proc/$PPID/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo $n as the first process; done'
show nice busybox nice
show scheduler busybox chrt -p $$
show terminals sh -c 'ls -l /dev/pts /dev/console | busybox awk "{ print \$1, \$3, \$4, \$5, \$NF }"'
show sysctl cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax
"#;

/// A script for the container's shell: what a program is not allowed, and in which words it hears of it.
pub const REFUSED: &str = r#"
cd /tmp
try() { "$@" >/dev/null 2>/tmp/said; echo "$*: $? $(tail -n 1 /tmp/said)"; }
try busybox unshare -U true; try busybox unshare -m true; try busybox unshare -n true
try mount -t tmpfs x /tmp; try mount -o remount,rw /sys; try umount /proc
try mknod /tmp/null c 1 3; try cat /tmp/null; try mknod /tmp/disk b 7 0; try head -c 0 /tmp/disk
try busybox chroot / true; try busybox pivot_root / /tmp; try hostname another; try busybox dmesg -s 1
try busybox nice -n -5 true; try busybox renice -n 1 1; try busybox chrt -f 1 true; try busybox ionice -c 1 true
try busybox swapoff -a; try ip link set lo down; try chown 1:1 /tmp/said; try busybox insmod /none; try busybox losetup -f
rm -f null disk said
"#;

/// A script that prints what the cgroups of process `$1` say, in every hierarchy.
const OUTSIDE: &str = r#"
while IFS=: read -r number controllers path; do
  hierarchy=${controllers#name=}
  group=/sys/fs/cgroup/${hierarchy:-unified}$path
  for file in memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness memory.oom_control \
    memory.use_hierarchy cpu.shares cpu.cfs_quota_us cpu.cfs_period_us cpu.idle cpuset.cpus cpuset.mems cpuset.cpu_exclusive pids.max \
    freezer.state devices.list blkio.weight blkio.bfq.weight blkio.throttle.read_bps_device blkio.throttle.write_iops_device \
    notify_on_release cgroup.clone_children cgroup.type cgroup.freeze; do
    [ -f $group/$file ] && sort $group/$file | while read -r line; do echo "${hierarchy:-unified} $file: $line"; done
  done
  [ $path = / ] || [ $(cat $group/cgroup.procs | wc -l) = 0 ] || echo "${hierarchy:-unified} $path has processes"
done < /proc/$1/cgroup
echo "oom_score_adj: $(cat /proc/$1/oom_score_adj)"
cat /proc/$1/limits
"#;

/// What the cgroups of the process say that is called `pid` inside the node.
pub fn outside(node: &Node, pid: &str) -> String {
    run(node.inside(programs::busybox()).args(["sh", "-c", OUTSIDE, "sh", pid.trim()])).ok()
}

/// Takes from a section of [`INSIDE`] what no two containers share.
pub fn normal(name: &str, text: &str) -> String {
    match name {
        "status" => status(text),
        "mountinfo" => mountinfo(text),
        _ => text.to_owned(),
    }
}

/// Lines of a process's status that tell how it is right now.
const OF_THE_MOMENT: &[&str] =
    &["Vm", "Rss", "Hugetlb", "FDSize", "SigQ", "State", "Tgid", "Ngid", "Pid", "NStgid", "NSpid"];

/// Sizes, counts and pids differ each time. Whether a process leads its group and session does not.
fn status(text: &str) -> String {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let pid = field("NSpid:");
    text.lines()
        .filter(|line| !OF_THE_MOMENT.iter().any(|start| line.starts_with(start)))
        .filter(|line| !line.contains("ctxt_switches"))
        .map(|line| match line.split_once(':') {
            Some(("PPid", value)) if value.trim() != "0" => "PPid: another\n".to_owned(),
            Some((name @ ("NSpgid" | "NSsid"), value)) => {
                format!("{name}: {}\n", if value.trim() == pid { "its own" } else { "another" })
            }
            _ => line.to_owned() + "\n",
        })
        .collect()
}

/// Mount and device numbers are the kernel's; the order is that in which mounts were made, not that of their places. Which directory an
/// overlay is of is the caller's business.
fn mountinfo(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let peers = |field: &str| field.split(':').next().unwrap_or_default().to_owned();
            let mut kept: Vec<String> = fields.iter().skip(3).map(|field| (*field).to_owned()).collect();
            for field in &mut kept {
                if field.starts_with("master:") || field.starts_with("shared:") || field.starts_with("propagate_from:")
                {
                    *field = peers(field);
                }
                for option in ["lowerdir=", "upperdir="] {
                    if let Some((before, _)) = field.split_once(option) {
                        *field = format!("{before}…");
                    }
                }
            }
            kept.swap(0, 1);
            kept.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}
