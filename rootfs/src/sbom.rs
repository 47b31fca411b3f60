//! The bill of materials: which package each file of an image came from, with versions, sums and licences, as SPDX 2.3.
//!
//! A caller adds one [`Part`] for each thing that went into the image; [`root::parts`] gives those of the root, other
//! crates add theirs (kernel, crates of `init`, later a boot loader: one [`Part`] more). Rendering sorts, so the order of
//! adding decides nothing, and no clock and no random number gets in: equal parts give equal bytes.
//!
//! It refuses to conclude: a licence is what the package states, as an expression, as its own text, or as unknown. See
//! docs/decisions/012-sbom-is-spdx.md.

pub mod boot;
mod check;
pub mod licence;
mod part;
pub mod root;
mod spdx;

pub use check::{CheckError, faults};
pub use licence::Licence;
pub use part::{File, IMAGE, Part, Place, SbomError, purl};

/// The bill of one image.
#[derive(Debug, Clone, Default)]
pub struct Sbom {
    parts: Vec<Part>,
}

impl Sbom {
    /// Adds what went into the image.
    pub fn add(&mut self, parts: impl IntoIterator<Item = Part>) {
        self.parts.extend(parts);
    }

    /// The document. `created` is in seconds since 1970, and must not be the clock's.
    pub fn render(&self, created: u64) -> Result<String, SbomError> {
        spdx::render(&self.parts, created)
    }
}

/// When a document claims to be made: SOURCE_DATE_EPOCH, or 1970 where it is not set, since a clock would make two
/// equal builds differ.
pub fn created(source_date_epoch: Option<&str>) -> Result<u64, SbomError> {
    source_date_epoch.map_or(Ok(0), |text| {
        // Year 9999 is the last that RFC 3339 can write.
        let seconds = text.parse().ok().filter(|&seconds: &u64| seconds <= 253_402_300_799);
        seconds.ok_or_else(|| SbomError::ReadEpoch(text.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_source_date_epoch_or_1970_and_nothing_else() {
        assert_eq!(created(None).unwrap(), 0);
        assert_eq!(created(Some("1700000000")).unwrap(), 1_700_000_000);
        for wrong in ["", "now", "-1", "253402300800"] {
            assert!(matches!(created(Some(wrong)), Err(SbomError::ReadEpoch(_))), "{wrong}");
        }
    }
}
