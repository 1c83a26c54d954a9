//! nftables without the `nft` program: rules as values, and their encoding for the kernel.
//!
//! [`plan`] decides which static rules the network needs; [`elements`] says which map elements a published port is; `encode` writes
//! both as nfnetlink batches, which the kernel takes as a whole or not at all. Source: `linux/netfilter/nf_tables.h`.

mod element;
mod encode;
mod expression;
mod ruleset;

pub(crate) use element::{Element, PublishedPort, elements};
pub(crate) use encode::{
    ForeignChain, add_elements, delete_elements, delete_rules, delete_table, forward_chains, insert_rules,
    list_elements, replace_table, rules_with, table_comment,
};
pub(crate) use ruleset::{Apart, MAPS, Ruleset, pass, plan};
