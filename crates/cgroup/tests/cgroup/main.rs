//! Real groups on the host's real layout, and on the version 2 part of a hybrid host by itself.
//!
//! Every test works in a group of its own, `/carrack-test-<pid>-<n>`, and leaves nothing behind. What a layout cannot show is
//! skipped aloud.

mod child;
mod devices;
mod enter;
mod lifecycle;
mod limits;
mod scratch;
