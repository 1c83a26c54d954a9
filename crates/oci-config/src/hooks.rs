//! `hooks` of config.json.

wire! {
    /// Programs by point of the life cycle. Each gets the state as JSON on its standard input.
    pub struct Hooks {
        opt {
            /// Old name for programs run before `create_runtime`.
            prestart: Vec<Hook>,
            /// After the namespaces are made, before the root is changed; in the runtime's namespaces.
            create_runtime: Vec<Hook>,
            /// Before the root is changed; in the container's namespaces.
            create_container: Vec<Hook>,
            /// In `start`, before the user's program; in the container's namespaces.
            start_container: Vec<Hook>,
            /// After the user's program runs, before `start` returns; in the runtime's namespaces.
            poststart: Vec<Hook>,
            /// After `delete`; in the runtime's namespaces.
            poststop: Vec<Hook>,
        }
    }

    /// One program.
    pub struct Hook {
        req {
            /// Absolute path of the program.
            path: String,
        }
        opt {
            /// The arguments, the name first.
            args: Vec<String>,
            /// The whole environment.
            env: Vec<String>,
            /// Seconds before the hook is killed and counts as failed; absent means no limit.
            timeout: Option<i64>,
        }
    }
}

impl Hooks {
    /// Whether there are any that run in the runtime's namespaces while the container is made.
    pub fn has_runtime_hooks(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }
}
