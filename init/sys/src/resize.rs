//! Telling the kernel that a partition, or a mounted ext4, has become longer.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::ioctl::{self, Opcode, Setter, opcode};
use std::os::fd::AsFd;

/// `struct blkpg_partition` of linux/blkpg.h: what is in it, in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

/// `_IO(0x12, 105)`.
const BLKPG: Opcode = opcode::none(0x12, 105);
/// `BLKPG_RESIZE_PARTITION`.
const RESIZE_PARTITION: i32 = 3;
/// `EXT4_IOC_RESIZE_FS` of fs/ext4/ext4.h: `_IOW('f', 16, __u64)`.
const RESIZE_EXT4: Opcode = opcode::write::<u64>(b'f', 16);

/// Gives partition `number` of the whole device `disk` a new length; both in bytes. Works while others of its
/// partitions are mounted.
pub fn partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(|_| Errno::OVERFLOW)?,
        length: length.try_into().map_err(|_| Errno::OVERFLOW)?,
        number: number.try_into().map_err(|_| Errno::OVERFLOW)?,
        names: [0; 128],
    };
    let argument = BlkpgArgument {
        operation: RESIZE_PARTITION,
        flags: 0,
        length: i32::try_from(size_of::<BlkpgPartition>()).unwrap_or_default(),
        data: &raw mut partition,
    };
    // SAFETY: BLKPG reads one blkpg_ioctl_arg, and through its pointer one blkpg_partition; both are laid out as the
    // kernel's, live for the call, and neither is written.
    unsafe { ioctl::ioctl(disk, Setter::<BLKPG, BlkpgArgument>::new(argument)) }
}

/// Grows the ext4 that `file` is on to `blocks` of its own blocks, while it is mounted. The kernel journals each step.
pub fn ext4(file: impl AsFd, blocks: u64) -> Result<(), Errno> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads exactly one u64.
    unsafe { ioctl::ioctl(file, Setter::<RESIZE_EXT4, u64>::new(blocks)) }
}
