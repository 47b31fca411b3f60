//! dm-verity, both sides: the image builder makes the hash tree, PID 1 opens the device.
//!
//! **Why one crate.** The root hash is the one number that the kernel command line carries, and everything
//! the node runs hangs from it. If builder and boot each had their own idea of the superblock, of the partition
//! UUIDs or of the table line, a difference would show as a node that doesn't boot. Here both sides share the types.
//!
//! **Invariants.**
//! * The hash area is byte for byte what `veritysetup format` writes, so anybody can check ours with a tool that we
//!   did not write.
//! * Bytes from a disk ([`superblock`], [`find`]) or from the kernel ([`table`]) are read by pure functions that
//!   don't allocate and can't panic; each has a fuzz target.
//! * [`device`] is the only module that talks to the kernel, and one file of it holds all `unsafe`.
//!
//! **Refuses** everything but SHA-256, 4096-byte blocks and hash type 1: an option that nobody uses is an option
//! that an attacker may use. It never checks data itself on the node; the kernel does that on each read.
//!
//! | module | side | what |
//! |---|---|---|
//! | [`superblock`] | both | the 512 bytes before the tree |
//! | [`layout`] | both | how many blocks the tree has, and where each level lies |
//! | [`root_hash`] | both | the root hash and the partition UUIDs that follow from it |
//! | [`command_line`] | both | `roothash=`, the word that names it to the node |
//! | `tree` | builder, feature `format` | hash the data, write the tree |
//! | [`find`] | node | candidates for root and verity partition in a GPT |
//! | [`grow`] | both | the same table for a larger disk, its last partition grown to the end |
//! | [`table`] | node | the line that tells the kernel what to open, and the lines it answers |
//! | [`device`] | node | the device-mapper ioctls |

mod hex;

pub mod command_line;
pub mod find;
pub mod grow;
pub mod layout;
pub mod root_hash;
pub mod salt;
mod sizes;
pub mod superblock;
pub mod table;

#[cfg(target_os = "linux")]
pub mod device;
#[cfg(feature = "format")]
pub mod tree;

#[cfg(target_os = "linux")]
pub use device::{Device, DeviceName};
pub use find::{Gpt, SectorSize};
pub use root_hash::{PartitionUuids, ROOT_X86_64, ROOT_X86_64_VERITY, RootHash, partition_uuids};
pub use salt::Salt;
pub use sizes::{BLOCK_SIZE, DIGEST_SIZE};
pub use superblock::Superblock;
pub use table::{DeviceNumber, OnCorruption, SignatureKey, Verdict, VerityTable};
#[cfg(feature = "format")]
pub use tree::format;
pub use uuid::Uuid;
