//! Releases: which may be installed, which is blessed, which can be gone back to.
//!
//! **Why one crate.** The process that fetches a release (`update`) and the one that writes it (`slots`) both admit or refuse it. They
//! do so by this code, so that neither has an opinion of its own on what a release is.
//!
//! **What always holds.** A [`Candidate`](staged::Candidate) is only made from a manifest that a trusted key has signed. The
//! decisions about boot entries are pure functions over a trait, and a table test walks every step that can fail.
//!
//! **Refuses** to touch a disk: mounting, writing and renaming are the work of `slots`.

pub mod boot_partition;
pub mod entries;
pub mod floor;
pub mod running;
pub mod staged;
