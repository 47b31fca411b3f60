//! Why a node has no configuration: the errors of the config stage, and of those that look for it a machine-config.

use rustix::io::Errno;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigStageError {
    /// No source has one.
    #[error(
        "no machine-config: give one by SMBIOS, fw_cfg, a drive or a cloud's user data (see docs/operations.md)"
    )]
    FindConfig,
    /// The bytes could not be carried.
    #[error("the machine-config from {source_name} could not be read: {cause}")]
    ReadConfig {
        /// Where it lies.
        source_name: &'static str,
        /// Why.
        cause: Errno,
    },
    /// A directory for the results could not be made.
    #[error("/run/config could not be prepared: {0}")]
    PrepareDirectory(Errno),
    /// The process could not be started.
    #[error("the config process could not be started: {0}")]
    StartParser(std::io::Error),
    /// It did not come to an end, or to a good one.
    #[error("the config process died or took too long; the machine-config is not used")]
    AwaitParser,
    /// It left no plan.
    #[error("the config process left no plan; the machine-config is not used")]
    ReadPlan,
    /// The process that asks a cloud could not be started.
    #[error("the metadata process could not be started: {0}")]
    StartMetadata(std::io::Error),
    /// The cloud gave none.
    #[error(
        "no machine-config from {0}: what `metadata` logged before this says why (see docs/operations.md)"
    )]
    AskCloud(&'static str),
    /// The machine-config is wrong.
    #[error("machine-config from {source_name}: {text}")]
    Invalid {
        /// Where it lies.
        source_name: &'static str,
        /// What is wrong with it.
        text: String,
    },
}
