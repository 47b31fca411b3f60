//! The kernel calls that no safe wrapper covers, each in a file of its own. Nothing above this folder is unsafe.

pub mod descriptors;
pub mod heap;
pub mod packet;
pub mod pages;
pub mod resize;
pub mod signals;
pub mod spawn;
pub mod watchdog;
