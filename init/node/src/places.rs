//! What two processes must agree on: paths between them, bounds of what they say, exit codes.
//!
//! One names it and the other relies on it, and neither imports the other, so it stands here once.

use std::ffi::CStr;

/// The plan that the config process leaves for PID 1.
pub const PLAN: &str = "/run/config/plan";

/// Where the public keys lie that a release must be signed with, one file each: written by `config`, read by `slots`.
pub const KEYS: &str = match KEYS_FOLDER.to_str() {
    Ok(path) => path,
    Err(_) => panic!("the path is ASCII"),
};
/// [`KEYS`], as kernel calls take it.
pub const KEYS_FOLDER: &CStr = c"/run/config/slots";

/// Name of the file with every certificate authority that the runtime trusts, in the folder that `config` fills for it.
pub const CERTIFICATES: &str = "ca.pem";

/// Which disk the root is on: written by PID 1, read by `slots`.
pub const DISK_FILE: &str = "/run/node/disk";

/// What PID 1 starts where the command line asks for it: in the twins' build alone, for the gate that compares each process
/// with its row.
pub const OBSERVER: &CStr = c"observer";

/// How many block devices PID 1 hands over to `update` to read from: the slot that runs, the other one, the boot
/// partition.
pub const SEEDS: usize = 3;

/// Where `update` listens for `control`. PID 1 made the folder for this service.
pub const UPDATE_SOCKET: &str = "/run/update/socket";
/// Most bytes of a request on [`UPDATE_SOCKET`].
pub const MAX_UPDATE_REQUEST: usize = 1024;
/// Most bytes of an answer on [`UPDATE_SOCKET`]: the state with every attempt.
pub const MAX_UPDATE_ANSWER: usize = 128 * 1024;

/// Exit code of `slots`: it is done; when looking, the release that runs is kept.
pub const EXIT_DONE: i32 = 0;
/// Exit code of `slots` when looking: the release that runs is on trial.
pub const EXIT_ON_TRIAL: i32 = 10;

/// Exit code of `metadata`: the document is written.
pub const EXIT_FOUND: i32 = 0;
