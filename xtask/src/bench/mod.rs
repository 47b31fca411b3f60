//! `cargo xtask bench`: what is measured and not judged by a test.
//!
//! Each command prints its figures and keeps them under `bench/` when it is told to. None is a step of `cargo xtask
//! test`, but the count of a boot: wall times need a machine that does nothing else.

mod boot;
mod peer;
mod start;

pub use boot::{report, saved_goals as boot_goals, saved_parts as boot_parts};
pub use peer::saved as peer_table;
pub use start::saved as start_table;

use anyhow::Result;
use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct BenchArguments {
    /// What to measure
    what: What,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// How many pairs of boots, for `start` and `peer`; `peer` with 0 shows again what was kept
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Keep the figures in bench/boot.json, bench/start.json, or bench/peer.json and bench/peer.png
    #[arg(long)]
    save: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Instructions from kernel entry to PID 1, to the agent's exec, to health; memory of every process
    Boot,
    /// Wall time to health: from the verified root, and from an initramfs that holds the same tree
    Start,
    /// Size, time and memory against the same runtime on Debian with systemd, which is built for it
    Peer,
}

/// The command.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    match arguments.what {
        What::Boot => boot::run(arguments),
        What::Start => start::run(arguments),
        What::Peer => peer::run(arguments),
    }
}

/// The middle value; of an even number the upper one of the middle.
fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
