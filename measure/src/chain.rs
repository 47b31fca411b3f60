//! Register 4: the programs that firmware starts, one by the other.
//!
//! Firmware says that it begins with boot options, sets a line below its own work, and then measures each program before it
//! starts it: by its Authenticode hash, which leaves out checksum and signature, so that signing a program changes no
//! register. TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5 and 10.4.4.

use crate::pcr::{Digest, Register};
use authenticode::PeTrait;
use object::read::pe::PeFile64;
use sha2::{Digest as _, Sha256};

/// What is measured before the first boot option (`EV_EFI_ACTION`).
const BOOT_OPTION: &[u8] = b"Calling EFI Application from Boot Option";
/// The line between firmware and what it starts (`EV_SEPARATOR`).
const SEPARATOR: &[u8] = &[0; 4];

/// A program has no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It isn't an EFI program.
    #[error("{what} is no EFI program ({why}): build it again")]
    Parse {
        /// Which program.
        what: String,
        /// What the library said.
        why: String,
    },
    /// Its sections lie outside of it.
    #[error("{0} has sections that lie outside of the file: build it again")]
    Hash(String),
}

/// A program's Authenticode hash; `what` is its name in errors.
pub fn authenticode(what: &str, program: &[u8]) -> Result<Digest, ChainError> {
    let parsed = PeFile64::parse(program)
        .map_err(|why| ChainError::Parse { what: what.to_owned(), why: why.to_string() })?;
    let mut hash = Sha256::new();
    let pe: &dyn PeTrait = &parsed;
    authenticode::authenticode_digest(pe, &mut hash).map_err(|_| ChainError::Hash(what.to_owned()))?;
    Ok(Digest::new(hash.finalize().into()))
}

/// What register 4 holds once firmware has started these programs, each the one before it: for a release preboot, the boot
/// loader and the unified kernel image; without Secure Boot the kernel inside follows, which the stub starts by the
/// firmware then.
pub fn register_4<'a>(programs: impl IntoIterator<Item = &'a Digest>) -> Register {
    let mut register = Register::RESET;
    register.extend(Digest::of(BOOT_OPTION));
    register.extend(Digest::of(SEPARATOR));
    for program in programs {
        register.extend(*program);
    }
    register
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused_by_name() {
        let error = authenticode("preboot", b"MZ").unwrap_err().to_string();
        assert!(error.starts_with("preboot is no EFI program"), "{error}");
    }

    #[test]
    fn another_program_or_another_order_is_another_value() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let values = [register_4([]), register_4([&one]), register_4([&one, &two]), register_4([&two, &one])];
        for (index, value) in values.iter().enumerate() {
            assert!(values[index + 1..].iter().all(|other| other != value));
        }
    }
}
