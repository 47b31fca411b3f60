//! Defects on purpose: what the twins of gates do otherwise than a release.
//!
//! A test that something is refused or noticed proves little unless it fails once the control is gone. So there is one more
//! build of `init`, with the feature `twins`, in which each control can be removed by a word of the kernel's command line,
//! `twin=NAME`. In every other build [`is`] is `false` for whatever is asked, and the compiler leaves the defect out:
//! the command line of a release can't bring it back.

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// PID 1 hangs in its first stage, with ten seconds until the watchdog bites.
    HangEarly,
    /// A release on trial is blessed at once, healthy or not.
    BlessAlways,
    /// Whoever signed a release is believed.
    BelieveAnyone,
    /// The same while a release is fetched, not while it is installed.
    BelieveFetched,
    /// The root is mounted from its partition, without dm-verity in between.
    NoVerity,
    /// The job that copies from a drive hangs; work on the slots has fifteen seconds instead of minutes.
    HangTakeDrive,
    /// The same, without the shorter time: nothing ends the job while a test lasts.
    HangTakeDriveForEver,
    /// No defect: one more process, with every right, writes down what each of the others is (`init/observer`).
    Observed,
}

impl Twin {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HangEarly,
        Self::BlessAlways,
        Self::BelieveAnyone,
        Self::BelieveFetched,
        Self::NoVerity,
        Self::HangTakeDrive,
        Self::HangTakeDriveForEver,
        Self::Observed,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HangEarly => "hang-early",
            Self::BlessAlways => "bless-always",
            Self::BelieveAnyone => "believe-anyone",
            Self::BelieveFetched => "believe-fetched",
            Self::NoVerity => "no-verity",
            Self::HangTakeDrive => "hang-take-drive",
            Self::HangTakeDriveForEver => "hang-take-drive-for-ever",
            Self::Observed => "observed",
        }
    }
}

/// Whether this build is a twin that has this defect.
#[cfg(not(feature = "twins"))]
pub const fn is(_: Twin) -> bool {
    false
}

/// Whether this build is a twin that has this defect.
#[cfg(feature = "twins")]
pub fn is(twin: Twin) -> bool {
    use std::sync::OnceLock;
    static NAMED: OnceLock<Option<Twin>> = OnceLock::new();
    let named = || {
        // The kernel hands a word that it doesn't know to PID 1 in its environment, where it is before there is a /proc.
        let name = std::env::var("twin").ok().or_else(|| {
            let line = std::fs::read_to_string("/proc/cmdline").ok()?;
            line.split_ascii_whitespace().find_map(|word| word.strip_prefix("twin=")).map(str::to_owned)
        })?;
        Twin::ALL.into_iter().find(|twin| twin.name() == name)
    };
    *NAMED.get_or_init(named) == Some(twin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_twins_has_no_defect() {
        assert!(Twin::ALL.into_iter().all(|twin| !is(twin)) || cfg!(feature = "twins"));
    }
}
