//! The two files of this folder that decide the kernel, as they were when this crate was compiled. The build and the
//! checks both read them.

/// The fragment.
pub const FRAGMENT: &str = include_str!("../x86_64.config");

/// The pin of the source package.
pub const SOURCE_LOCK: &str = include_str!("../source.lock");
