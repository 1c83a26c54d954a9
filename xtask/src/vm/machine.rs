//! Starts QEMU, and ends it by its own pid when its time is over.

use std::fs;
use std::process::Command;

use super::{Guest, GuestOutcome, Init, disk, kernel, systemd, transcript};
use crate::failure::Failure;
use crate::process::{Ending, Show, run_bounded};
use crate::workspace::Workspace;

/// Boots a machine, runs the guest's commands, and returns what became of each.
///
/// A machine that does not end by itself is killed after its limit; the commands it did not reach then have no exit code. Fails only where the machine could not be made or did not boot.
pub fn run(workspace: &Workspace, guest: &Guest, show: Show) -> Result<Vec<GuestOutcome>, Failure> {
    let kernel = kernel::prepare(workspace)?;
    let base = match guest.init {
        Init::Script => None,
        Init::Systemd => Some(systemd::prepare(workspace)?),
    };
    let place = workspace.cache(&format!("vm-{}", std::process::id()));
    fs::create_dir_all(&place).map_err(Failure::because(format!("make {}", place.display())))?;
    let image = place.join("disk");
    disk::build(guest, base.as_deref(), &place.join("tree"), &image)?;
    let console = place.join("console");

    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", &format!("{}M", guest.memory_mib)])
        .args(["-display", "none", "-nic", "none", "-no-reboot", "-no-user-config"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&kernel.ram_disk)
        .args(["-append", KERNEL_COMMAND_LINE])
        .args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe", image.display())])
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", "stdio"]);
    let outcome = run_bounded(&mut qemu, guest.limit, show)?;

    let outcomes = transcript::parse(&outcome.output, &guest.commands);
    let is_done = outcome.output.lines().any(|line| line.trim_end() == "@@vm done");
    let console = fs::read_to_string(&console).unwrap_or_default();
    let _ = fs::remove_dir_all(&place);
    if outcomes.iter().all(|outcome| outcome.code.is_none()) {
        return Err(Failure::new(format!(
            "the virtual machine ran nothing ({:?}):\n{console}\n{}",
            outcome.ending, outcome.output
        )));
    }
    if !is_done {
        let why = match outcome.ending {
            Ending::TimedOut => "was killed after its time",
            Ending::Exited(_) => "ended before its last command",
        };
        println!("the virtual machine {why}; its console said:\n{console}");
    }
    Ok(outcomes)
}

/// Pure cgroup v2, AppArmor first, and a panic that ends the machine. `random.trust_cpu` lets the random pool be ready at boot. The last is for systemd.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 cgroup_no_v1=all swapaccount=1 \
     apparmor=1 security=apparmor random.trust_cpu=on \
     systemd.unit=carrack-vm.service";
