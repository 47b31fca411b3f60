//! Opening, asking and removing a verity device through the kernel's device-mapper (Linux only).
//!
//! PID 1 needs four calls of libdevmapper; here they are, on fixed buffers, with no udev, no cookie and no allocation.
//! Opening is three steps - create, load the table, resume - and a failure in the last two removes what the first
//! made, so that no half-open device is left under the name.
//!
//! **Invariant.** [`Device::open_verity`] returns a device only when the kernel says that its table is live and that it
//! is read-only. Whether the *contents* match the root hash shows when they are read: the kernel checks each block then.
//!
//! Refuses a control node that is not the kernel's own (character device 10:236), device-mapper major versions other
//! than 4, and targets other than one single verity target.
//!
//! Source: include/uapi/linux/dm-ioctl.h, drivers/md/dm-ioctl.c; `dmsetup(8)`.

mod ioctl;
mod message;

use core::{fmt, fmt::Write, str::FromStr};
use std::io;

use rustix::io::Errno;
use uuid::Uuid;

pub use self::message::AnswerError;
use self::{
    ioctl::ControlNode,
    message::{ACTIVE_PRESENT, Message, READ_ONLY, STATUS_TABLE, SUSPENDED},
};
use crate::table::{DeviceNumber, TARGET, TableError, Verdict, VerityTable};

/// Where the kernel's devtmpfs puts device-mapper's control node.
pub const CONTROL: &str = "/dev/mapper/control";

/// An open verity device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    number: DeviceNumber,
}

impl Device {
    /// Creates a read-only device `name`, loads `table` and makes it live. `uuid` is the superblock's.
    ///
    /// devtmpfs makes the node [`Device::node`] before this returns; nobody makes `/dev/mapper/NAME`.
    pub fn open_verity(name: &DeviceName, uuid: Uuid, table: &VerityTable) -> Result<Self, DeviceError> {
        open_verity(&open_control()?, name, uuid, table)
    }

    /// What the kernel has live under `name`, and what it has seen of it.
    pub fn status(name: &DeviceName) -> Result<Status, DeviceError> {
        status(&open_control()?, name)
    }

    /// Removes the device `name`, which nothing may have open.
    pub fn remove(name: &DeviceName) -> Result<(), DeviceError> {
        let control = open_control()?;
        control
            .call(Command::DeviceRemove, &mut Message::new(name, 0))
            .map_err(|source| DeviceError::RemoveDevice { name: name.clone(), source })
    }

    /// Its numbers.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Its node, `/dev/dm-MINOR`.
    pub fn node(&self) -> heapless::String<20> {
        let mut node = heapless::String::new();
        write!(node, "/dev/dm-{}", self.number.minor).expect("8 characters and at most 10 digits fit in 20");
        node
    }
}

/// What the kernel says about an open verity device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its numbers.
    pub number: DeviceNumber,
    /// Whether a block has failed its check since the device was opened.
    pub verdict: Verdict,
    /// Whether the kernel refuses writes to it.
    pub read_only: bool,
    /// Whether reads wait (between suspend and resume).
    pub suspended: bool,
    /// The live table: compare its root hash with the signed one.
    pub table: VerityTable,
}

/// Name of a device: 1 to 32 of `a-z A-Z 0-9 . _ -`, and none of the three names that device-mapper keeps for itself.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceName(heapless::String<{ DeviceName::MAX }>);

impl DeviceName {
    /// Longest name. Our own limit, a quarter of the kernel's: an error carries its device's name inline.
    pub const MAX: usize = 32;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if matches!(text, "" | "." | ".." | "control") || !text.bytes().all(plain) {
            return Err(DeviceNameError);
        }
        text.try_into().map(Self).map_err(|_| DeviceNameError)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceName({self})")
    }
}

/// Text that can't name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("device name refused: use 1 to 32 letters, digits, dots, underscores or dashes")]
pub struct DeviceNameError;

/// What device-mapper is asked; the numbers of its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Command {
    Version = 0,
    DeviceCreate = 3,
    DeviceRemove = 4,
    /// Without [`SUSPENDED`] in the flags, this resumes, and so makes the loaded table live.
    DeviceSuspend = 6,
    TableLoad = 9,
    TableStatus = 12,
}

/// Who answers: the kernel, or in the tests a table of answers.
trait Control {
    fn call(&self, command: Command, message: &mut Message) -> Result<(), Errno>;
}

fn open_control() -> Result<ControlNode, DeviceError> {
    let control = ControlNode::open()?;
    check_version(&control)?;
    Ok(control)
}

fn check_version(control: &impl Control) -> Result<(), DeviceError> {
    // The kernel refuses another major version with EINVAL, after writing its own.
    let mut message = Message::unnamed();
    match control.call(Command::Version, &mut message) {
        Ok(()) => Ok(()),
        Err(source) => Err(DeviceError::CheckVersion { kernel: message.version(), source }),
    }
}

fn open_verity(
    control: &impl Control,
    name: &DeviceName,
    uuid: Uuid,
    table: &VerityTable,
) -> Result<Device, DeviceError> {
    let describe = |source| DeviceError::DescribeTable { name: name.clone(), source };
    let (sectors, line) = (table.sectors().map_err(describe)?, table.line().map_err(describe)?);

    let mut create = Message::new(name, 0);
    create.set_uuid(format_args!("CRYPT-VERITY-{}-{name}", uuid.simple()));
    control
        .call(Command::DeviceCreate, &mut create)
        .map_err(|source| DeviceError::CreateDevice { name: name.clone(), source })?;
    let number = create.device();

    let mut load = Message::new(name, READ_ONLY);
    load.set_target(TARGET, sectors, &line);
    let mut resume = Message::new(name, READ_ONLY);
    control
        .call(Command::TableLoad, &mut load)
        .map_err(|source| DeviceError::LoadTable { name: name.clone(), source })
        .and_then(|()| {
            control
                .call(Command::DeviceSuspend, &mut resume)
                .map_err(|source| DeviceError::ResumeDevice { name: name.clone(), source })
        })
        .and_then(|()| {
            let wanted = READ_ONLY | ACTIVE_PRESENT;
            let flags = resume.flags();
            if flags & wanted == wanted {
                Ok(())
            } else {
                Err(DeviceError::NotLive { name: name.clone(), flags })
            }
        })
        .inspect_err(|_| {
            // The first failure is the one to report; if this fails too, the boot ends anyway.
            let _ = control.call(Command::DeviceRemove, &mut Message::new(name, 0));
        })?;
    Ok(Device { number })
}

fn status(control: &impl Control, name: &DeviceName) -> Result<Status, DeviceError> {
    let ask = |flags| {
        let mut message = Message::new(name, flags);
        control
            .call(Command::TableStatus, &mut message)
            .map_err(|source| DeviceError::ReadStatus { name: name.clone(), source })?;
        Ok(message)
    };
    let answer = |source| DeviceError::ReadAnswer { name: name.clone(), source };
    let parse = |source| DeviceError::ParseAnswer { name: name.clone(), source };

    // The table first: a verdict read later can only be newer news about the same device, never older.
    let live = ask(STATUS_TABLE)?;
    let table = live.target(TARGET).map_err(answer)?.parse().map_err(parse)?;
    let seen = ask(0)?;
    if seen.device() != live.device() {
        return Err(DeviceError::Replaced { name: name.clone() });
    }
    Ok(Status {
        number: live.device(),
        verdict: seen.target(TARGET).map_err(answer)?.parse().map_err(parse)?,
        read_only: seen.flags() & READ_ONLY != 0,
        suspended: seen.flags() & SUSPENDED != 0,
        table,
    })
}

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

#[cfg(test)]
mod tests;
