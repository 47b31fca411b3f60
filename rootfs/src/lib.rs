//! From pinned packages to a bootable disk.
//!
//! Input: two lock files, a list of cuts with their reasons, a launcher. Output: an EROFS root with its manifest, and a
//! GPT disk around it. The same input gives the same bits on each machine: the archive's bytes are pinned by SHA-256,
//! the tools that shape them come from pinned packages too and run through their own `ld.so`, and no time, path, user
//! or random number of the building machine gets into the result.
//!
//! This crate is never on the node.
//!
//! Things it refuses to do: run a maintainer script, enter a chroot, download what is not pinned, put a shell, a
//! compiler or a package manager into the image ([`audit`] holds those promises).

mod apt;
pub mod audit;
mod cache;
pub mod check;
mod closure;
pub mod command_line;
mod components;
pub mod disk;
mod elf;
mod erofs;
pub mod esp;
mod fetch;
pub mod formats;
pub mod hot;
mod image;
pub mod lock;
mod manifest;
pub mod origins;
pub mod plain;
pub mod relock;
mod run;
pub mod sbom;
mod source;
mod tools;
mod tree;
pub mod uki;
pub mod variant;

pub use apt::{AptError, SUITE, archive_lines};
pub use cache::{Cache, CacheError, sha256_file, sha256_hex};
pub use closure::{ClosureError, Cut, HOT_FILES, REMEMBERED, SITE, TrimRules, os_release};
pub use components::{Components, components};
pub use elf::{NotStaticPie, require_static_pie};
pub use erofs::{ErofsError, ErofsOptions};
pub use fetch::{FetchError, fetch_debian, newest_debian, pip_install, renew_tools, wheels};
pub use image::{BuildError, BuildOptions, RootImage, build};
pub use manifest::{Item, Manifest};
pub use run::RunError;
pub use tools::{ToolError, Tools};

/// What the building host needs beyond a Debian base system: `(package, why)`.
///
/// Compilers of images (mkfs.erofs, mkfs.ext4, strip) are not here: they come from pinned packages.
pub const HOST_PACKAGES: &[(&str, &str)] = &[
    ("python3-pip", "`pip download` fetches the pinned wheels"),
    ("ca-certificates", "pip checks the index's certificate"),
    ("qemu-utils", "`qemu-img` writes the image in the formats of the clouds"),
    ("strace", "only for `hot::record`: which files a start reads, in order"),
];
