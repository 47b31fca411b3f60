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

mod control;
mod error;
mod ioctl;
mod message;
mod name;

use core::fmt::Write;

use uuid::Uuid;

pub use self::{
    control::CONTROL,
    error::DeviceError,
    message::AnswerError,
    name::{DeviceName, DeviceNameError},
};
use self::{
    control::{Command, Control},
    ioctl::ControlNode,
    message::{ACTIVE_PRESENT, Message, READ_ONLY, STATUS_TABLE, SUSPENDED},
};
use crate::table::{DeviceNumber, TARGET, Verdict, VerityTable};

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

#[cfg(test)]
mod tests;
