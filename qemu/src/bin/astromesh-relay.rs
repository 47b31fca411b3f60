//! `astromesh-relay HOST:PORT`: what QEMU runs for one connection of the guest. See `relay.rs`.
//!
//! It prints nothing: standard output and standard error both lead into the guest.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(target) = std::env::args().nth(1) else { return ExitCode::from(2) };
    // Returning ends the process and with it the thread that may still wait for the guest.
    match astromesh_qemu::relay(&target, std::io::stdin(), std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
