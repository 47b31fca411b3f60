//! Images of Astromesh OS in an OCI registry: pushed with a signature, pulled only when the signature holds.
//!
//! A registry is a place to keep bytes, not a party that is trusted: what decides is a key pair. [`push`] stores an
//! image as an OCI artifact of layers (never as a container image, so that no container runtime takes it for one) and
//! signs the digest of its manifest in cosign's format. [`pull`] checks that signature before it asks for a single
//! layer, each layer against the digest that the signed manifest names, and moves files into place only when all of
//! them are right.
//!
//! What always holds:
//! * a layer is never fetched for a manifest without a [`Verified`], and only [`verify`] makes one;
//! * everything a registry sends has a bound, checked before it is kept;
//! * a tag is set last: it never names an image whose signature isn't there yet;
//! * plain HTTP is spoken with 127.0.0.0/8 and `localhost`, HTTPS with everybody else.
//!
//! It doesn't protect against an old image under a new tag: a signature says who made an image, not that it is the
//! newest. Who needs one image exactly names its digest.
//!
//! No function here is asynchronous, and none may be called from inside an asynchronous runtime: each has one of its
//! own on the calling thread.

mod digest;
mod download;
pub mod keys;
mod layer;
pub mod manifest;
mod options;
mod pull;
mod push;
mod reference;
mod registry;
pub mod signature;
mod verify;

pub use digest::Digest;
pub use keys::{KeyError, PublicKey, SigningKey};
pub use layer::{FileName, Kind};
pub use options::{Credentials, Options};
pub use pull::{Progress, PullError, Pulled, pull};
pub use push::{Artifact, PushError, Pushed, push};
pub use reference::{Reference, ReferenceError};
pub use registry::RegistryError;
pub use verify::{Verified, VerifyError, verify};
