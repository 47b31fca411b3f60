//! Images of Astromesh OS in an OCI registry: pushed with a signature, taken only when the signature holds.
//!
//! A registry is a place to keep bytes, not a party that is trusted: what decides is a key pair. [`push`] stores an
//! image as an OCI artifact of layers (never as a container image, so that no container runtime takes it for one) and
//! signs the digest of its manifest in a format of cosign's; both of cosign's formats are taken. [`verify_with`] checks that signature before a single layer is
//! asked for, [`fetch_layer`] each layer against the digest that the signed manifest names. [`pull`] does both for a
//! folder, and moves files into place only when all of them are right.
//!
//! What always holds:
//! * a layer is never fetched for a manifest without a [`Verified`], and only a signature makes one;
//! * everything that a [`Source`] sends has a bound, checked before it is kept;
//! * a tag is set last: it never names an image whose signature isn't there yet;
//! * plain HTTP is spoken with this machine (127.0.0.0/8, `[::1]`, `localhost`), HTTPS with everybody else.
//!
//! It doesn't protect against an old image under a new tag: a signature says who made an image, not that it is the
//! newest. Who needs one image exactly names its digest.
//!
//! Without the feature `desk` there is no asynchronous runtime below it: that is the part for the node. With it, no
//! function is asynchronous either, and [`push`] may not be called from inside a runtime: it has one of its own.

pub mod bundle;
pub mod chunks;
mod delta;
mod digest;
mod download;
mod evidence;
mod fetch;
pub mod keys;
mod layer;
pub mod manifest;
mod options;
#[cfg(feature = "desk")]
mod pull;
#[cfg(feature = "desk")]
mod push;
mod reference;
pub mod signature;
mod signer;
pub mod source;
mod transfer;
#[cfg(feature = "desk")]
mod upload;
mod verify;

pub use chunks::{ChunkIndex, ChunksError};
pub use delta::Seed;
pub use digest::Digest;
pub use evidence::Evidence;
pub use fetch::{fetch_index, fetch_layer};
pub use keys::{KeyError, PublicKey, SigningKey};
pub use layer::{FileName, Kind};
#[cfg(feature = "desk")]
pub use options::Options;
pub use options::{CertificateDer, Credentials, Patience, SourceOptions, roots_from_pem};
#[cfg(feature = "desk")]
pub use pull::{PullError, Pulled, pull, verify};
#[cfg(feature = "desk")]
pub use push::{Artifact, PushError, Pushed, push};
pub use reference::{Reference, ReferenceError};
#[cfg(feature = "twins")]
pub use signer::believe_anyone;
pub use source::{LayoutError, LayoutSource, Referrer, RegistryError, RegistrySource, Source, SourceError};
pub use transfer::{FetchError, Fetched, Progress};
pub use verify::{Verified, VerifyError, verify_with};
