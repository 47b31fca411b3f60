//! The two lock files: which packages are in the image, by version and by SHA-256.
//!
//! They are the only place a version is written. A build takes exactly what they say or fails; [`crate::relock`] is
//! what rewrites them, and a person reads the difference before it is committed. Parsing is strict: a field
//! that is unknown, missing or twice there is an error, since a pin that was silently ignored is not a pin.

mod debian;
mod error;
mod field;
mod python;

pub use debian::{DebianLock, DebianPackage, Purpose};
pub use error::LockError;
pub(crate) use python::parse_wheel_name;
pub use python::{PythonLock, Wheel};
