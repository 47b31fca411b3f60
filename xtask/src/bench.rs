//! placeholder until the harness is in
use anyhow::Result;
use clap::Args;
#[derive(Args)]
pub struct BenchArguments {}
pub fn run(_: &BenchArguments) -> Result<()> { Ok(()) }
