//! Asks systemd for transient units over D-Bus.
//!
//! ```text
//! Unit::parse("slice:prefix:name") ──▶ Manager::connect ──▶ start_scope, set_properties, stop ──▶ each waits for systemd's job
//! ```
//!
//! `value` and `wire` are the types of D-Bus and their bytes, `message` puts them into messages, `connection` carries these; all of it is
//! what talking to systemd takes, and no more: no containers of named entries (`a{…}`), no file descriptors, one request at a time. Systemd is trusted
//! with what it does, not with what it sends: every length is bounded, and every wait has a deadline.
//!
//! Sources: D-Bus specification 0.42; systemd 252, org.freedesktop.systemd1(5), systemd.resource-control(5).

#![forbid(unsafe_code)]

mod connection;
mod error;
mod manager;
mod message;
mod text;
mod unit;
mod value;
mod wire;

pub use error::SystemdError;
pub use manager::{Manager, Property, is_running};
pub use text::{AnnotationError, property_of_annotation};
pub use unit::{Unit, UnitError};
pub use value::Value;
