//! `cargo xtask bench`: what is measured and not judged by a test.
//!
//! Each command prints its figures and keeps them under `bench/` when it is told to. None is a step of `cargo xtask
//! test`, but the count of a boot: wall times need a machine that does nothing else.

mod arguments;
mod boot;
mod peer;
mod start;

pub use arguments::BenchArguments;
pub use boot::{report, saved_goals as boot_goals, saved_parts as boot_parts};
pub use peer::saved as peer_table;
pub use start::saved as start_table;

use anyhow::Result;
use arguments::What;

/// The command.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    match arguments.what {
        What::Boot => boot::run(arguments),
        What::Start => start::run(arguments),
        What::Peer => peer::run(arguments),
    }
}
