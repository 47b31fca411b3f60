//! What went wrong with a device. The system call and the steps above it share one enum: an operator reads of one act,
//! opening, whichever of its steps failed.

use std::io;

use rustix::io::Errno;

use super::{control::CONTROL, message::AnswerError, name::DeviceName};
use crate::table::TableError;

/// Why device-mapper did not do what it was asked, and on which device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The control node is not there.
    #[error(
        "{CONTROL} is missing; mount devtmpfs on /dev first, and build the kernel with CONFIG_BLK_DEV_DM=y"
    )]
    MissingControlNode,
    /// The control node is there but not openable.
    #[error("opening {CONTROL} failed: {0}; it takes root")]
    OpenControlNode(#[source] io::Error),
    /// Something else lies at the control node's path.
    #[error(
        "{CONTROL} is not character device 10:236; something replaced it, so check what is mounted on /dev"
    )]
    ForeignControlNode,
    /// The kernel speaks another version, or refuses the caller.
    #[error(
        "device-mapper refused interface version 4.0.0: {source} (it speaks {}.{}.{}); it takes CAP_SYS_ADMIN",
        kernel[0], kernel[1], kernel[2]
    )]
    CheckVersion {
        /// The kernel's version, or our own when it did not answer.
        kernel: [u32; 3],
        /// What the kernel said.
        source: Errno,
    },
    /// The table can't be written down.
    #[error("describing verity device {name} failed: {source}")]
    DescribeTable {
        /// The device.
        name: DeviceName,
        /// What is wrong with the table.
        source: TableError,
    },
    /// `DM_DEV_CREATE` failed.
    #[error("creating device {name} failed: {source}; if it exists already, remove it first")]
    CreateDevice {
        /// The device.
        name: DeviceName,
        /// What the kernel said.
        source: Errno,
    },
    /// `DM_TABLE_LOAD` failed: the kernel does not accept the table (or its signature).
    #[error(
        "loading the verity table of {name} failed: {source}; the reason is in the kernel log, in a line with \"verity\""
    )]
    LoadTable {
        /// The device.
        name: DeviceName,
        /// What the kernel said; `ENOKEY` and `EKEYREJECTED` are about the signature.
        source: Errno,
    },
    /// `DM_DEV_SUSPEND` without its flag failed.
    #[error(
        "making verity device {name} live failed: {source}; the reason is in the kernel log, in a line with \"device-mapper\""
    )]
    ResumeDevice {
        /// The device.
        name: DeviceName,
        /// What the kernel said.
        source: Errno,
    },
    /// Every call succeeded, yet the device has no live table or takes writes.
    #[error("verity device {name} is not live and read-only (flags {flags:#x}); do not use it, reboot")]
    NotLive {
        /// The device.
        name: DeviceName,
        /// The kernel's flags.
        flags: u32,
    },
    /// `DM_TABLE_STATUS` failed.
    #[error("reading the status of device {name} failed: {source}; is it open under this name?")]
    ReadStatus {
        /// The device.
        name: DeviceName,
        /// What the kernel said.
        source: Errno,
    },
    /// The answer is not one live verity target.
    #[error("reading the status of device {name} failed: {source}")]
    ReadAnswer {
        /// The device.
        name: DeviceName,
        /// What is wrong with the answer.
        source: AnswerError,
    },
    /// The answer's text is not what this project sets.
    #[error("reading the status of device {name} failed: {source}")]
    ParseAnswer {
        /// The device.
        name: DeviceName,
        /// What is wrong with the text.
        source: TableError,
    },
    /// Between two questions, another device took the name.
    #[error("device {name} was replaced while its status was read; ask again")]
    Replaced {
        /// The device.
        name: DeviceName,
    },
    /// `DM_DEV_REMOVE` failed.
    #[error("removing device {name} failed: {source}; unmount what is on it first")]
    RemoveDevice {
        /// The device.
        name: DeviceName,
        /// What the kernel said.
        source: Errno,
    },
}
