//! Orders kernel modules so that each comes after those it needs, out of the `modules.dep` that depmod(8) writes.

use std::collections::HashMap;

/// What the tests use that Debian's cloud kernel has only as modules.
pub const WANTED: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    "overlay",
    "erofs",
    "loop",
    "fuse",
    "bridge",
    "br_netfilter",
    "veth",
    "tun",
    "dummy",
    "macvlan",
    "vxlan",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_ct",
    "nft_compat",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_log",
    "nft_limit",
    "nft_reject",
    "nft_reject_inet",
    "nft_numgen",
    "nft_hash",
    "nf_conntrack",
    "nf_nat",
    "nf_conntrack_netlink",
];

/// The file names (below the modules' directory) of `wanted` and all they need, in loading order. A name that the kernel has
/// built in, or not at all, is not in the file and left out.
pub fn loading_order(modules_dep: &str, wanted: &[&str]) -> Vec<String> {
    let mut needs: HashMap<String, (&str, Vec<&str>)> = HashMap::new();
    for line in modules_dep.lines() {
        if let Some((file, needed)) = line.split_once(':') {
            needs.insert(module_name(file), (file, needed.split_whitespace().collect()));
        }
    }
    let mut order = vec![];
    for name in wanted {
        let Some((file, needed)) = needs.get(&module_name(name)) else { continue };
        // depmod lists everything that is needed, the nearest first: so the farthest is loaded first.
        for file in needed.iter().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push((*file).to_owned());
            }
        }
    }
    order
}

/// `nf_tables` of `kernel/net/netfilter/nf-tables.ko.xz`: a dash and an underscore are one to the kernel.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let dep = "net/bridge.ko: net/stp.ko net/llc.ko\nnet/stp.ko: net/llc.ko\nnet/llc.ko:\nnet/br-netfilter.ko: net/bridge.ko net/stp.ko net/llc.ko\n";
        assert_eq!(
            loading_order(dep, &["bridge", "br_netfilter", "ext4"]),
            ["net/llc.ko", "net/stp.ko", "net/bridge.ko", "net/br-netfilter.ko"]
        );
    }
}
