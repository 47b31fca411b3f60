//! The arguments of `cargo xtask bench`. Each measurement reads them, and the command that chooses between them does.

use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct BenchArguments {
    /// What to measure
    pub(super) what: What,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// How many pairs of boots, for `start` and `peer`; `peer` with 0 shows again what was kept
    #[arg(long, default_value_t = 3)]
    pub(super) runs: u32,
    /// Keep the figures in bench/boot.json, bench/start.json, or bench/peer.json and bench/peer.png
    #[arg(long)]
    pub(super) save: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum What {
    /// Instructions from kernel entry to PID 1, to the agent's exec, to health; memory of every process
    Boot,
    /// Wall time to health: from the verified root, and from an initramfs that holds the same tree
    Start,
    /// Size, time and memory against the same runtime on Debian with systemd, which is built for it
    Peer,
}
