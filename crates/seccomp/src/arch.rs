//! Architectures: that of the host, and the ABIs whose calls a filter can tell apart.

use crate::table;

/// The host's architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86_64; can run X86 and X32 calls too.
    X86_64,
    /// aarch64; can run ARM calls too.
    Aarch64,
}

/// One way of calling the kernel: its own numbers and its own width of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abi {
    /// 64-bit calls of x86_64.
    X86_64,
    /// 32-bit calls of i386.
    X86,
    /// 32-bit pointers with x86_64 registers; shares X86_64's audit number and marks its calls with bit 30.
    X32,
    /// 64-bit calls of aarch64.
    Aarch64,
    /// 32-bit calls of ARM EABI.
    Arm,
}

/// The bit that marks a call as one of X32's.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// `SCMP_ARCH_*` names of the specification without an ABI of ours: calls of theirs cannot occur on our hosts.
const FOREIGN: &[&str] = &[
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

impl Arch {
    /// The architecture this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The architecture this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// The ABIs whose calls can occur: the host's own first, and those that share an audit number side by side.
    pub fn abis(self) -> &'static [Abi] {
        match self {
            Self::X86_64 => &[Abi::X86_64, Abi::X32, Abi::X86],
            Self::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        }
    }

    /// What to list under `architectures` to filter every ABI.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.abis().iter().map(|abi| abi.name())
    }
}

impl Abi {
    /// The name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// `AUDIT_ARCH_*` of `<linux/audit.h>`, which the kernel puts into `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The number of a call as it stands in `seccomp_data.nr` (an X32 number has its bit); absent when this ABI lacks the call.
    pub fn number(self, name: &str) -> Option<u32> {
        self.pick(table::numbers(name)?)
    }

    pub(crate) fn pick(self, row: &table::Row) -> Option<u32> {
        let number = match self {
            Self::X86_64 => row[0],
            Self::X86 => row[1],
            Self::X32 => row[2],
            Self::Aarch64 => row[3],
            Self::Arm => row[4],
        };
        (number != table::NO).then_some(self.marked(number as u32))
    }

    /// A bare number with this ABI's mark.
    pub(crate) fn marked(self, number: u32) -> u32 {
        if self == Self::X32 { number | X32_BIT } else { number }
    }

    /// Whether conditions look at the low half of an argument only. libseccomp counts X32 among these, and so do we.
    pub(crate) fn is_narrow(self) -> bool {
        match self {
            Self::X86_64 | Self::Aarch64 => false,
            Self::X86 | Self::X32 | Self::Arm => true,
        }
    }
}

/// Every architecture name of the specification; [`Abi`]s first.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm].into_iter().map(Abi::name).chain(FOREIGN.iter().copied())
}

/// The ABIs to filter on a host: its own, and those among `listed` that it can run. An unknown name is returned as the error.
pub(crate) fn select(host: Arch, listed: &[String]) -> Result<Vec<Abi>, &str> {
    if let Some(unknown) = listed.iter().find(|name| !names().any(|known| known == name.as_str())) {
        return Err(unknown);
    }
    let is_wanted = |abi: &Abi| *abi == host.abis()[0] || listed.iter().any(|name| name == abi.name());
    Ok(host.abis().iter().copied().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_hosts_own_abi_is_always_filtered_and_foreign_ones_never() {
        assert_eq!(select(Arch::X86_64, &[]), Ok(vec![Abi::X86_64]));
        assert_eq!(
            select(Arch::X86_64, &listed(&["SCMP_ARCH_X32", "SCMP_ARCH_S390X"])),
            Ok(vec![Abi::X86_64, Abi::X32])
        );
        assert_eq!(
            select(Arch::Aarch64, &listed(&["SCMP_ARCH_ARM", "SCMP_ARCH_X86"])),
            Ok(vec![Abi::Aarch64, Abi::Arm])
        );
        assert_eq!(select(Arch::X86_64, &listed(&["SCMP_ARCH_VAX"])), Err("SCMP_ARCH_VAX"));
    }

    #[test]
    fn the_specification_has_twenty_three_names() {
        assert_eq!(names().count(), 23);
    }

    #[test]
    fn x32_numbers_carry_their_bit() {
        assert_eq!(Abi::X32.number("read"), Some(0x4000_0000));
        assert_eq!(Abi::X32.number("readv"), Some(0x4000_0000 + 515));
        assert_eq!(Abi::Aarch64.number("open"), None);
    }
}
