//! The command line, as clap sees it.
//!
//! Names and meanings are those that docker users know. What is not offered is an error that names it ([`crate::refusal`]).

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Carrack: one engine for containers, images and pods.
#[derive(Debug, Parser)]
#[command(
    name = "carrack",
    version,
    disable_version_flag = true,
    after_help = "\
Examples:
  carrack run -it --rm alpine sh          a shell in a new container
  carrack run -d --name web -p 8080:80 nginx
  carrack logs -f web                     follow its output
  carrack exec -it web sh                 another process in it
  carrack serve                           the daemon for the kubelet (CRI)

`carrack COMMAND --help` tells more of each command."
)]
pub struct CommandLine {
    /// Directory for images, containers and volumes [env CARRACK_ROOT; default /var/lib/carrack]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub root: Option<PathBuf>,
    /// Directory for what a reboot ends [env CARRACK_RUN; default /run/carrack]
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub run: Option<PathBuf>,
    /// Show the version
    #[arg(short, long, action = ArgAction::Version)]
    pub version: (),
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How a list or an object is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a new container
    Run(Box<Run>),
    /// List containers
    Ps(Ps),
    /// Show a container's output
    Logs(Logs),
    /// Run a further command in a running container
    Exec(Exec),
    /// Stop containers: signal, wait, kill
    Stop(Stop),
    /// Send a signal to containers
    Kill(Kill),
    /// Start stopped containers
    Start(Start),
    /// Connect this terminal with a running container
    Attach(Attach),
    /// Remove containers
    Rm(Rm),
    /// Wait until containers exit and print their exit codes
    Wait(Names),
    /// Show all that is known of containers or images, as JSON
    Inspect(Inspect),
    /// Pull images from a registry
    Pull(Pull),
    /// List images
    Images(Images),
    /// Give an image a further name
    Tag(Tag),
    /// Remove images
    Rmi(Rmi),
    /// Show what this engine and its host are
    Info(Formatted),
    /// Show the version
    Version(Formatted),
    /// Serve the Kubernetes CRI on a unix socket
    Serve(Serve),
    /// Release what an ended pod held (monitors call this)
    #[command(hide = true)]
    Cleanup {
        /// The pod
        pod: String,
    },
    /// Stop all that runs and remove what the engine set up on the host; images, containers and volumes stay
    Teardown,
    /// Load an image from an OCI layout, a directory
    Load(Load),
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    trailing_var_arg = true,
    disable_help_flag = true,
    after_help = "\
Examples:
  carrack run --rm alpine echo hello
  carrack run -it --rm -v \"$PWD:/src\" -w /src debian bash
  carrack run -d --name web -p 8080:80 --memory 256m --cpus 0.5 --restart on-failure:3 nginx

The exit code is the command's; 125 if Carrack failed, 126 if the command cannot be executed, 127 if it is not found."
)]
pub struct Run {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run in the background and print the id
    #[arg(short, long)]
    pub detach: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Mount a directory of the host or a named volume
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub volume: Vec<String>,
    /// Publish a port
    #[arg(short, long = "publish", value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    pub publish: Vec<String>,
    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Limit memory, like 512m or 2g
    #[arg(short, long, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory: Option<String>,
    /// Limit CPU time, like 0.5 or 2
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub cpus: Option<String>,
    /// Limit the number of tasks; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Make the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Give all capabilities and devices, hide nothing
    #[arg(long)]
    pub privileged: bool,
    /// Network: bridge, host or none
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub network: Option<String>,
    /// When to start again: no, always, unless-stopped, on-failure[:MAX]
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Platform of the image, like linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Show this help
    #[arg(long, action = ArgAction::HelpLong)]
    pub help: (),
    /// The image
    pub image: String,
    /// Command and arguments
    #[arg(allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Flags of `ps`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  carrack ps\n  carrack ps -a --format json")]
pub struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  carrack logs web\n  carrack logs -f --tail 20 web")]
pub struct Logs {
    /// Go on until the container exits
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// The container
    pub container: String,
}

/// Flags of `exec`.
#[derive(Debug, Args)]
#[command(
    trailing_var_arg = true,
    after_help = "\
Examples:
  carrack exec web cat /etc/hosts
  carrack exec -it web sh

The exit code is the command's; 125 if Carrack failed, 126 if the command cannot be executed, 127 if it is not found."
)]
pub struct Exec {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set an environment variable
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Give the command all capabilities
    #[arg(long)]
    pub privileged: bool,
    /// The container
    pub container: String,
    /// Command and arguments
    #[arg(required = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Containers by name, id or unique beginning of an id.
#[derive(Debug, Args)]
pub struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Flags of `stop`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carrack stop -t 2 web")]
pub struct Stop {
    /// Seconds until it is killed [default: the container's own, else 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u64>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Flags of `start`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  carrack start web\n  carrack start -ai shell")]
pub struct Start {
    /// Show the output and forward signals, until the container exits
    #[arg(short, long)]
    pub attach: bool,
    /// Also pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Flags of `attach`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carrack attach shell          ctrl-p ctrl-q leaves it running")]
pub struct Attach {
    /// Do not pass standard input on
    #[arg(long)]
    pub no_stdin: bool,
    /// Name or id
    pub container: String,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carrack kill -s HUP web")]
pub struct Kill {
    /// Name or number
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Flags of `rm`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carrack rm -f web")]
pub struct Rm {
    /// Also if it runs: kill it first
    #[arg(short, long)]
    pub force: bool,
    /// Also its volumes that have no name
    #[arg(short, long)]
    pub volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Output; only json
    #[arg(long, value_enum, default_value = "json")]
    pub format: Format,
    /// Names or ids of containers, or names or ids of images
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Flags of `pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  carrack pull alpine\n  carrack pull --platform linux/arm64 quay.io/prometheus/busybox:latest"
)]
pub struct Pull {
    /// Print the image's id only
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform, like linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Names
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Flags of `images`.
#[derive(Debug, Args)]
pub struct Images {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags of `tag`.
#[derive(Debug, Args)]
pub struct Tag {
    /// Name or id of the image
    pub source: String,
    /// The further name
    pub target: String,
}

/// Flags of `rmi`.
#[derive(Debug, Args)]
pub struct Rmi {
    /// Also if it has several names or containers that have exited use it
    #[arg(short, long)]
    pub force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Flags of what prints one object.
#[derive(Debug, Args)]
pub struct Formatted {
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  carrack serve --socket /run/carrack/carrack.sock\n  crictl --runtime-endpoint unix:///run/carrack/carrack.sock info"
)]
pub struct Serve {
    /// The socket [default: carrack.sock in the run directory]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Flags of `load`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, with an archive that `docker save` wrote:\n  skopeo copy docker-archive:app.tar oci:layout:app\n  carrack load layout app:1.0"
)]
pub struct Load {
    /// The layout
    pub directory: PathBuf,
    /// The name that the image gets
    pub name: String,
}
