//! Where the bytes of an image come from: a registry, or a directory that holds what a registry would.
//!
//! Nothing here blocks for ever or keeps more than it was asked to keep, and nothing here is believed: what comes is
//! compared with a digest by who asked ([`crate::verify_with`], [`crate::fetch_layer`]). There is no asynchronous
//! runtime below it, because it runs on the node.

mod error;
mod http;
mod layout;
mod pace;
mod referrer;
mod registry;
mod repository;
mod token;

pub(crate) use error::chain;
#[cfg(feature = "desk")]
pub(crate) use error::short;
pub use error::{LayoutError, RegistryError, SourceError};
pub use layout::LayoutSource;
pub(crate) use referrer::BUNDLE_TYPE;
pub use referrer::Referrer;
pub use registry::RegistrySource;
pub use repository::{Blob, Source};
pub(crate) use repository::{SmallBlobError, small_blob};
