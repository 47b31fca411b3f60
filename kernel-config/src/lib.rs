//! The kernel: one pinned source package, one configuration fragment, one file out.
//!
//! The fragment (`x86_64.config`) is everything the node's kernel can do; the base is allnoconfig, so what is not in
//! it is not in the kernel. kconfig drops a symbol whose dependencies are missing without a word, so [`check`]
//! compares what was asked for with what was built, and a difference fails the build. A built kernel is kept in the
//! cache under everything that decides its bits: source, fragment, compiler, recipe.
//!
//! This crate is never on the node.

pub mod build;
pub mod check;
pub mod hardening;
mod inputs;
mod pace;

pub use build::{BuildError, HOST_PACKAGES, Kernel, Source, Step, build, newest_source, source};
pub use inputs::{FRAGMENT, SOURCE_LOCK};
