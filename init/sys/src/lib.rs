//! The kernel calls that no safe wrapper covers, each in a file of its own.
//!
//! **Why one crate.** This is all `unsafe` code below `init/`. It stands apart so that it can be read as a whole, and a test
//! of `xtask` (`walls`) refuses it anywhere else there.
//!
//! **What always holds.** What is exported is safe to call, and each `unsafe` block says why it is sound. The crate depends
//! on nothing of ours.
//!
//! **Refuses** to know what it is used for: no path of the node, no service and no policy stands here. A call that rustix
//! covers doesn't get a second wrapper.

pub mod descriptors;
pub mod heap;
pub mod kernel_file;
pub mod packet;
pub mod pages;
pub mod resize;
pub mod signals;
pub mod spawn;
pub mod watchdog;
