//! Why a node has no configuration: the errors of the config stage, and of those that look for it a machine-config.

use crate::job::{Reason, StartError};
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
    StartParser(StartError),
    /// It did not come to a good end.
    #[error("the machine-config is not used, because it could not be read to its end: {0}")]
    AwaitParser(Reason),
    /// It left no plan.
    #[error("the config process left no plan; the machine-config is not used")]
    ReadPlan,
    /// The process that asks a cloud could not be started.
    #[error("the metadata process could not be started: {0}")]
    StartMetadata(StartError),
    /// The cloud gave none.
    #[error("no machine-config from {source_name}: {reason} (see docs/operations.md)")]
    AskCloud {
        /// Which cloud.
        source_name: &'static str,
        /// Why.
        reason: Reason,
    },
    /// The machine-config is wrong.
    #[error("machine-config from {source_name}: {text}")]
    Invalid {
        /// Where it lies.
        source_name: &'static str,
        /// What is wrong with it.
        text: String,
    },
}
