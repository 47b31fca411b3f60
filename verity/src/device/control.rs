//! What device-mapper is asked, and where. `ioctl.rs` asks the kernel; the tests ask a table of answers.

use rustix::io::Errno;

use super::message::Message;

/// Where the kernel's devtmpfs puts device-mapper's control node.
pub const CONTROL: &str = "/dev/mapper/control";

/// What device-mapper is asked; the numbers of its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    Version = 0,
    DeviceCreate = 3,
    DeviceRemove = 4,
    /// Without [`SUSPENDED`](super::message::SUSPENDED) in the flags, this resumes, and so makes the loaded table live.
    DeviceSuspend = 6,
    TableLoad = 9,
    TableStatus = 12,
}

/// Who answers: the kernel, or in the tests a table of answers.
pub(super) trait Control {
    fn call(&self, command: Command, message: &mut Message) -> Result<(), Errno>;
}
