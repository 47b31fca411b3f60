//! Register 11: the sections of a unified kernel image, which systemd's stub measures before it starts the kernel.
//!
//! For each section that is there, in the order of the UAPI group's "Unified Kernel Image" specification and not in that of
//! the file: its name with a NUL behind it, then its content. The section with the signatures over this value can't be in
//! it and isn't measured.

use crate::pcr::{Digest, Register};
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};

/// The sections that are measured, in their order.
const MEASURED: [&str; 13] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
    ".profile", ".dtbauto", ".hwids",
];

/// An image's register can't be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StubError {
    /// It isn't an EFI program.
    #[error("the unified kernel image is no EFI program ({0}): build it again")]
    Parse(String),
    /// A section lies outside of it.
    #[error("section {0} lies outside of the unified kernel image: build it again")]
    Section(&'static str),
    /// Two sections of one name: which one the stub takes is its own business.
    #[error("the unified kernel image has section {0} twice: build it again")]
    Twice(&'static str),
    /// There is no kernel in it.
    #[error("the unified kernel image has no section .linux: it is another program")]
    NoKernel,
}

/// What the stub leaves in register 11 before it starts the kernel.
pub fn register_11(image: &[u8]) -> Result<Register, StubError> {
    let parsed = PeFile64::parse(image).map_err(|why| StubError::Parse(why.to_string()))?;
    let mut register = Register::RESET;
    let mut has_kernel = false;
    for name in MEASURED {
        let mut found = parsed.sections().filter(|section| section.name_bytes() == Ok(name.as_bytes()));
        let Some(section) = found.next() else { continue };
        if found.next().is_some() {
            return Err(StubError::Twice(name));
        }
        let content = section.data().map_err(|_| StubError::Section(name))?;
        // A section fills whole units of the file; what it holds ends at its size in memory.
        let length = usize::try_from(section.size()).unwrap_or(usize::MAX);
        let content = content.get(..length.min(content.len())).unwrap_or_default();
        register.extend(Digest::of(&[name.as_bytes(), &[0]].concat()));
        register.extend(Digest::of(content));
        has_kernel |= name == ".linux";
    }
    if has_kernel { Ok(register) } else { Err(StubError::NoKernel) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(matches!(register_11(b""), Err(StubError::Parse(_))));
    }
}
