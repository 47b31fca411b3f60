//! Measured boot: what firmware, boot loader, stub and node put into the TPM's registers, as numbers that two sides agree on.
//!
//! **Why one crate.** The build predicts what a release will measure, and whoever verifies a node's quote compares
//! that with what the node's log says was measured. If both had their own idea of a register, a genuine node would be
//! refused, or worse.
//!
//! **Invariants.**
//! * A register here begins and is extended as the TPM does it, and nothing else changes it.
//! * A log comes from a node that may lie. [`event_log`] reads it with bounds and without copying, and can't panic; it has a
//!   fuzz target. What an event *says* it is stands in no register: only digests do, and only they decide.
//!
//! **Refuses** every hash but SHA-256: a bank that nobody checks is a bank in which anything can stand.
//!
//! | module | side | what |
//! |---|---|---|
//! | [`pcr`] | both | a digest, a register, how it is extended |
//! | [`event_log`] | verifier | the firmware's log, record for record |
//! | [`replay`] | verifier | from a log to the registers it claims |
//! | `chain` | builder, feature `predict` | register 4: the programs that firmware starts |
//! | `stub` | builder, feature `predict` | register 11: the sections of a unified kernel image |

#[cfg(feature = "predict")]
pub mod chain;
pub mod event_log;
pub mod pcr;
pub mod replay;
#[cfg(feature = "predict")]
pub mod stub;

pub use pcr::{Digest, Register};
