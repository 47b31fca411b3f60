//! From PID 1's child to the agent runtime: what the runtime sees of the machine is built here, then it is executed.
//!
//! The process is born in its own pid and mount namespaces and in the agent's cgroup. It makes a view with nothing in
//! it that the runtime does not need - the verified root, its own `/proc`, `/tmp`, `/dev` with five devices, its
//! configuration, its state - gives up every right for good, and executes Python. Any step that fails ends it: a
//! runtime in half a view is never started.

mod view;

use astromesh_node::inherited::{Inherited, NotGiven};
use astromesh_node::places::CERTIFICATES;
use astromesh_node::service::{self, BecomeError};
use astromesh_node::{log_sink, process};
use rustix::process::{Resource, Rlimit};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The interpreter.
const PYTHON: &str = "/usr/bin/python3.13";
/// The launcher, see `rootfs/launcher`.
const LAUNCHER: &str = "/usr/lib/astromesh/launch.pyc";
/// Where the runtime finds its configuration, in its own view.
const CONFIG: &str = "/run/agent";
/// Where the runtime keeps what it must keep.
const HOME: &str = "/var/lib/astromesh";
/// Largest environment file, in bytes: 32 providers' names and keys of 8 KiB, and room to spare.
const MOST_ENVIRONMENT: u64 = 512 * 1024;

/// Why the runtime was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The view could not be made.
    #[error(transparent)]
    BuildView(#[from] astromesh_node::view::ViewError),
    /// PID 1 gave no log.
    #[error(transparent)]
    TakeLog(#[from] NotGiven),
    /// Rights could not be given up.
    #[error("the runtime's rights could not be given up: {0}")]
    GiveUpRights(#[from] BecomeError),
    /// A limit could not be set.
    #[error("a resource limit could not be set: {0}")]
    SetLimit(rustix::io::Errno),
    /// The environment could not be read.
    #[error("{CONFIG}/environment can't be read: {0}; the machine-config was not applied")]
    ReadEnvironment(std::io::Error),
    /// It is not what the config process writes.
    #[error("{CONFIG}/environment is not a list of NAME=VALUE")]
    ParseEnvironment,
    /// The interpreter could not be executed.
    #[error("{PYTHON} can't be executed: {0}; the root lacks the runtime's closure")]
    Execute(std::io::Error),
}

/// The process. Returns only when the runtime could not be started.
pub fn main(inherited: Inherited) -> i32 {
    match launch(inherited) {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("{error}");
            1
        }
    }
}

fn launch(mut inherited: Inherited) -> Result<core::convert::Infallible, LaunchError> {
    log_sink::start(process::AGENT, inherited.extra("kernel log", 0)?);
    // The runtime gets neither the kernel log nor the socket to PID 1: what was inherited ends with this program.
    drop(inherited);

    view::build()?;
    // No core: it would hold keys.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(LaunchError::SetLimit)?;
    service::become_service(process::AGENT)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));

    let environment = std::fs::File::open(format!("{CONFIG}/environment"))
        .and_then(|file| {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST_ENVIRONMENT), &mut text)?;
            Ok(text)
        })
        .map_err(LaunchError::ReadEnvironment)?;
    let mut command = Command::new(PYTHON);
    command.args(["-I", "-S", "-B", LAUNCHER]).env_clear().current_dir(HOME);
    command.env("HOME", HOME).env("LANG", "C.UTF-8").env("PATH", "/usr/bin");
    command.env("ASTROMESH_CONFIG_DIR", CONFIG).env("ASTROMESH_PERSIST_AGENTS", "0");
    command.env("SSL_CERT_FILE", format!("{CONFIG}/{CERTIFICATES}"));
    // The runtime's default, DEBUG, would fill the log ring with what nobody asked for.
    command.env("ASTROMESH_LOG_LEVEL", "INFO");
    for line in environment.split_terminator('\0') {
        let (name, value) = line.split_once('=').ok_or(LaunchError::ParseEnvironment)?;
        command.env(name, value);
    }
    Err(LaunchError::Execute(command.exec()))
}
