//! The low-level runtime, the pod monitor and the stage.
//!
//! runc's command line over `carrack-runtime`, and three hidden verbs: `stage`, `monitor` and `pod-init`. This crate translates and never decides.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_main)]

mod arguments;
mod checkpoint;
mod command;
mod duration;
mod events;
mod foreground;
mod handover;
mod log;
mod print;
mod process_flags;
mod signal_name;
mod stats;
mod streams;
mod update_flags;

use std::path::Path;

#[global_allocator]
static HEAP: carrack_sys::heap::QuickHeap = carrack_sys::heap::QuickHeap;

carrack_sys::entry!(begin);

fn begin() -> u8 {
    let arguments: Vec<String> =
        carrack_sys::entry::arguments().into_iter().skip(1).map(|one| one.to_string_lossy().into_owned()).collect();
    match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("stage"), None) => carrack_runtime::serve_stage(),
        (Some("monitor"), Some(directory)) => match carrack_monitor::run(Path::new(directory)) {
            Ok(()) => 0,
            Err(error) => {
                log::say(&carrack_runtime::describe(&error));
                1
            }
        },
        (Some("pod-init"), None) => match carrack_monitor::pod_init::run() {
            Ok(never) => match never {},
            Err(error) => {
                log::say(&carrack_runtime::describe(&error));
                1
            }
        },
        _ => command::run(&arguments),
    }
}
