//! The system call itself: the only file of this crate that may be `unsafe`.
//!
//! Everything above it is safe, because a call can be made only on a node that [`ControlNode::open`] has recognised,
//! with a [`Message`] whose size the kernel is told here, right before the call.

#![allow(unsafe_code)]

use core::ffi::c_void;
use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, opcode},
};

use super::{
    control::{CONTROL, Command, Control},
    error::DeviceError,
    message::{HEADER_SIZE, Message},
};

/// `DM_IOCTL`, the type byte of device-mapper's requests.
const GROUP: u8 = 0xfd;

/// Character device 10:236 (`MISC_MAJOR`, `MAPPER_CTRL_MINOR` in include/linux/miscdevice.h), as `st_rdev`.
const CONTROL_RDEV: u64 = (10 << 8) + 236;

/// Device-mapper's control node, open.
pub(super) struct ControlNode(File);

impl ControlNode {
    /// Opens the node and makes sure that it is device-mapper's.
    pub(super) fn open() -> Result<Self, DeviceError> {
        Self::open_at(CONTROL)
    }

    fn open_at(path: &str) -> Result<Self, DeviceError> {
        let file = File::options().read(true).write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DeviceError::MissingControlNode,
            _ => DeviceError::OpenControlNode(error),
        })?;
        let metadata = file.metadata().map_err(DeviceError::OpenControlNode)?;
        if metadata.file_type().is_char_device() && metadata.rdev() == CONTROL_RDEV {
            Ok(Self(file))
        } else {
            Err(DeviceError::ForeignControlNode)
        }
    }
}

impl Control for ControlNode {
    fn call(&self, command: Command, message: &mut Message) -> Result<(), Errno> {
        message.announce_size();
        // SAFETY: the descriptor is device-mapper's control node (checked when it was opened), the request is one of
        // its own, and the message is a `struct dm_ioctl` that announces exactly the bytes it owns.
        unsafe { rustix::ioctl::ioctl(&self.0, Call { command, message }) }
    }
}

struct Call<'a> {
    command: Command,
    message: &'a mut Message,
}

/// `_IOWR(DM_IOCTL, command, struct dm_ioctl)`.
const fn request(command: Command) -> Opcode {
    opcode::read_write::<[u8; HEADER_SIZE]>(GROUP, command as u8)
}

// SAFETY: the kernel reads and writes at most `data_size` bytes from the pointer (`copy_params()` and `ctl_ioctl()` in
// drivers/md/dm-ioctl.c). `Message::announce_size` has put the length of the very buffer there, which is borrowed
// mutably for as long as this value lives. Any bytes that the kernel writes are a valid `[u8; N]`.
unsafe impl Ioctl for Call<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        request(self.command)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.message.as_mut_bytes().as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_have_the_numbers_of_the_kernel_headers() {
        // _IOWR is 3 in the two top bits, then 312 (0x138) bytes, type 0xfd, command.
        assert_eq!(request(Command::Version), 0xc138_fd00);
        assert_eq!(request(Command::DeviceCreate), 0xc138_fd03);
        assert_eq!(request(Command::DeviceRemove), 0xc138_fd04);
        assert_eq!(request(Command::DeviceSuspend), 0xc138_fd06);
        assert_eq!(request(Command::TableLoad), 0xc138_fd09);
        assert_eq!(request(Command::TableStatus), 0xc138_fd0c);
    }

    #[test]
    fn a_machine_without_device_mapper_is_told_what_to_mount() {
        let error = ControlNode::open_at("/proc/self/no-such-node").err().expect("there is no control node");
        assert!(matches!(error, DeviceError::MissingControlNode), "{error}");
    }

    #[test]
    fn another_device_in_the_place_of_the_control_node_is_refused() {
        for other in ["/dev/null", "/proc/self/oom_score_adj"] {
            let error = ControlNode::open_at(other).err().expect("this is no control node");
            assert!(matches!(error, DeviceError::ForeignControlNode), "{other}: {error}");
        }
    }
}
