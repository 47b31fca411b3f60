//! `struct dm_ioctl` and what follows it, as bytes: written and read field by field, so that neither needs `unsafe`.
//!
//! A message is one fixed buffer that goes both ways. Whatever the kernel puts in it is read with bounds checks:
//! offsets in an answer are checked against the buffer like any other input.
//!
//! Source: include/uapi/linux/dm-ioctl.h. The offsets are tested against a `repr(C)` copy of its structures.

use core::fmt::{self, Write};

use super::name::DeviceName;
use crate::table::{DeviceNumber, TableLine};

/// `sizeof(struct dm_ioctl)`.
pub(super) const HEADER_SIZE: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const SPEC_SIZE: usize = 40;
/// Bytes of a message. A header, a target and the longest table line are 1377; the rest is room for a foreign answer
/// to be recognised as such.
const SIZE: usize = 2048;

const VERSION_AT: usize = 0;
const DATA_SIZE_AT: usize = 12;
const DATA_START_AT: usize = 16;
const TARGET_COUNT_AT: usize = 20;
const FLAGS_AT: usize = 28;
const DEV_AT: usize = 40;
const NAME_AT: usize = 48;
const UUID_AT: usize = 176;
const UUID_SIZE: usize = 129;

/// Within `struct dm_target_spec` (the first sector, at 0, is always zero here).
const LENGTH_AT: usize = 8;
const NEXT_AT: usize = 20;
const TYPE_AT: usize = 24;
const TYPE_SIZE: usize = 16;

/// Oldest interface with everything used here. The kernel takes any 4.x up to its own.
const VERSION: [u32; 3] = [4, 0, 0];

/// `DM_READONLY_FLAG`: make it read-only; it is read-only.
pub(super) const READ_ONLY: u32 = 1 << 0;
/// `DM_SUSPEND_FLAG`: it is suspended.
pub(super) const SUSPENDED: u32 = 1 << 1;
/// `DM_STATUS_TABLE_FLAG`: tell the table, not the status.
pub(super) const STATUS_TABLE: u32 = 1 << 4;
/// `DM_ACTIVE_PRESENT_FLAG`: it has a live table.
pub(super) const ACTIVE_PRESENT: u32 = 1 << 5;
/// `DM_BUFFER_FULL_FLAG`: the answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;

/// A request, and after the call the kernel's answer.
#[repr(C, align(8))]
pub(super) struct Message([u8; SIZE]);

impl Message {
    /// A request about no device.
    pub(super) fn unnamed() -> Self {
        let mut message = Self([0; SIZE]);
        for (i, number) in VERSION.into_iter().enumerate() {
            message.put_u32(VERSION_AT + 4 * i, number);
        }
        message.put_length(DATA_START_AT, HEADER_SIZE);
        message.announce_size();
        message
    }

    /// A request about the device `name`.
    pub(super) fn new(name: &DeviceName, flags: u32) -> Self {
        let mut message = Self::unnamed();
        message.put(NAME_AT, name.as_str().as_bytes());
        message.put_u32(FLAGS_AT, flags);
        message
    }

    /// Adds the UUID of a device to be created. Other requests must not have one beside the name.
    pub(super) fn set_uuid(&mut self, uuid: fmt::Arguments<'_>) {
        let mut text = heapless::String::<{ UUID_SIZE - 1 }>::new();
        text.write_fmt(uuid).expect("a prefix of 13, a UUID of 32 and a name of 32 characters fit in 128");
        self.put(UUID_AT, text.as_bytes());
    }

    /// Adds a table of one target over the whole device.
    pub(super) fn set_target(&mut self, kind: &'static str, sectors: u64, line: &TableLine) {
        assert!(kind.len() < TYPE_SIZE, "target types are short constants");
        let spec = HEADER_SIZE;
        self.put_u32(TARGET_COUNT_AT, 1);
        self.put(spec + LENGTH_AT, &sectors.to_ne_bytes());
        self.put(spec + TYPE_AT, kind.as_bytes());
        // Zeros follow: the buffer is longer than header, target and the longest line.
        self.put(spec + SPEC_SIZE, line.as_bytes());
        let next = (SPEC_SIZE + line.len() + 1).next_multiple_of(8);
        self.put_length(spec + NEXT_AT, next);
    }

    /// Says how long the buffer is: before each call, since the kernel puts the length of its answer there.
    pub(super) fn announce_size(&mut self) {
        self.put_length(DATA_SIZE_AT, SIZE);
    }

    /// The whole buffer.
    pub(super) fn as_mut_bytes(&mut self) -> &mut [u8; SIZE] {
        &mut self.0
    }

    /// The interface version; after a call the kernel's.
    pub(super) fn version(&self) -> [u32; 3] {
        core::array::from_fn(|i| self.u32(VERSION_AT + 4 * i))
    }

    /// The flags; after a call those that the kernel sets.
    pub(super) fn flags(&self) -> u32 {
        self.u32(FLAGS_AT)
    }

    /// The device that an answer is about.
    pub(super) fn device(&self) -> DeviceNumber {
        // `huge_decode_dev()` looks at 32 of the 64 bits: 8 low ones of minor, 12 of major, 12 high ones of minor.
        let encoded = (u64::from_ne_bytes(self.field(DEV_AT)) & 0xffff_ffff) as u32;
        DeviceNumber { major: encoded >> 8 & 0xfff, minor: encoded & 0xff | encoded >> 12 & 0xf_ff00 }
    }

    /// The text that an answer gives for its only target, which must be of this kind.
    pub(super) fn target(&self, kind: &str) -> Result<&str, AnswerError> {
        if self.flags() & BUFFER_FULL != 0 {
            return Err(AnswerError::TooLong);
        }
        let count = self.u32(TARGET_COUNT_AT);
        if count != 1 {
            return Err(AnswerError::TargetCount { found: count });
        }
        let start = self.u32(DATA_START_AT) as usize;
        let end = self.u32(DATA_SIZE_AT) as usize;
        let answer = self.0.get(start..end).filter(|_| start >= HEADER_SIZE).ok_or(AnswerError::Bounds)?;
        let (spec, text) = answer.split_at_checked(SPEC_SIZE).ok_or(AnswerError::Bounds)?;
        if until_nul(&spec[TYPE_AT..]) != Some(kind.as_bytes()) {
            return Err(AnswerError::TargetType);
        }
        until_nul(text).and_then(|text| str::from_utf8(text).ok()).ok_or(AnswerError::Text)
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..][..value.len()].copy_from_slice(value);
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_ne_bytes());
    }

    fn put_length(&mut self, at: usize, length: usize) {
        self.put_u32(at, u32::try_from(length).expect("lengths here are within the buffer"));
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.0[at + i])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.field(at))
    }
}

fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|&byte| byte == 0).map(|end| &bytes[..end])
}

/// What is wrong with an answer of device-mapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It did not fit the buffer, so it is no table of ours.
    #[error(
        "device-mapper's answer is longer than any table of this system; the device was opened by something else"
    )]
    TooLong,
    /// Not exactly one target.
    #[error("the device has {found} targets, expected 1; was it opened at all, and by this system?")]
    TargetCount {
        /// How many there are.
        found: u32,
    },
    /// Its offsets point outside it.
    #[error("device-mapper's answer points outside itself; this kernel is not one this system was built for")]
    Bounds,
    /// The target is not verity.
    #[error("the device's target is not verity; it was opened by something else")]
    TargetType,
    /// Its text has no end, or is not UTF-8.
    #[error("device-mapper's answer is not text; the device was opened by something else")]
    Text,
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[repr(C)]
    struct DmIoctl {
        version: [u32; 3],
        data_size: u32,
        data_start: u32,
        target_count: u32,
        open_count: i32,
        flags: u32,
        event_nr: u32,
        padding: u32,
        dev: u64,
        name: [u8; 128],
        uuid: [u8; 129],
        data: [u8; 7],
    }

    #[repr(C)]
    struct DmTargetSpec {
        sector_start: u64,
        length: u64,
        status: i32,
        next: u32,
        target_type: [u8; 16],
    }

    #[test]
    fn the_offsets_are_those_of_the_kernels_structures() {
        assert_eq!(size_of::<DmIoctl>(), HEADER_SIZE);
        assert_eq!(offset_of!(DmIoctl, version), VERSION_AT);
        assert_eq!(offset_of!(DmIoctl, data_size), DATA_SIZE_AT);
        assert_eq!(offset_of!(DmIoctl, data_start), DATA_START_AT);
        assert_eq!(offset_of!(DmIoctl, target_count), TARGET_COUNT_AT);
        assert_eq!(offset_of!(DmIoctl, flags), FLAGS_AT);
        assert_eq!(offset_of!(DmIoctl, dev), DEV_AT);
        assert_eq!(offset_of!(DmIoctl, name), NAME_AT);
        assert_eq!(offset_of!(DmIoctl, uuid), UUID_AT);
        assert_eq!(offset_of!(DmIoctl, data), UUID_AT + UUID_SIZE);
        assert_eq!(size_of::<DmTargetSpec>(), SPEC_SIZE);
        assert_eq!(offset_of!(DmTargetSpec, length), LENGTH_AT);
        assert_eq!(offset_of!(DmTargetSpec, next), NEXT_AT);
        assert_eq!(offset_of!(DmTargetSpec, target_type), TYPE_AT);
        assert_eq!(size_of::<Message>(), SIZE);
        assert_eq!(align_of::<Message>(), 8);
    }

    fn name() -> DeviceName {
        "root".parse().unwrap()
    }

    /// As the kernel would answer `DM_TABLE_STATUS`: with its own length, and data behind the header.
    fn answer(kind: &str, text: &str) -> Message {
        let mut message = Message::new(&name(), 0);
        message.put_u32(TARGET_COUNT_AT, 1);
        message.put(HEADER_SIZE + TYPE_AT, kind.as_bytes());
        message.put(HEADER_SIZE + SPEC_SIZE, text.as_bytes());
        message.put_length(DATA_SIZE_AT, HEADER_SIZE + SPEC_SIZE + text.len() + 1);
        message
    }

    #[test]
    fn a_table_is_written_where_the_kernel_looks_for_it() {
        let mut message = Message::new(&name(), READ_ONLY);
        message.set_target("verity", 1032, &"1 254:2".try_into().unwrap());
        let bytes = &message.0;
        assert_eq!(bytes[..12], [4u32, 0, 0].map(u32::to_ne_bytes).concat());
        assert_eq!(bytes[12..24], [2048u32, 312, 1].map(u32::to_ne_bytes).concat());
        assert_eq!(bytes[28..32], 1u32.to_ne_bytes());
        assert_eq!(bytes[48..53], *b"root\0");
        assert_eq!(bytes[176], 0, "a name and a UUID together are refused");
        assert_eq!(bytes[312..328], [0u64, 1032].map(u64::to_ne_bytes).concat());
        assert_eq!(bytes[332..336], 48u32.to_ne_bytes());
        assert_eq!(bytes[336..343], *b"verity\0");
        assert_eq!(bytes[352..360], *b"1 254:2\0");
    }

    #[test]
    fn the_longest_table_line_leaves_its_terminator() {
        let mut message = Message::new(&name(), 0);
        let line = "x".repeat(crate::table::LINE_MAX);
        message.set_target("verity", 8, &line.as_str().try_into().unwrap());
        assert_eq!(message.target("verity"), Ok(line.as_str()));
    }

    #[test]
    fn device_numbers_are_decoded_as_the_kernel_encodes_them() {
        for (major, minor) in [(0, 0), (254, 0), (253, 255), (254, 256), (0xfff, 0xf_ffff)] {
            let mut message = Message::unnamed();
            // `new_encode_dev()` in include/linux/kdev_t.h.
            let encoded: u32 = minor & 0xff | major << 8 | (minor & !0xff) << 12;
            message.put(DEV_AT, &u64::from(encoded).to_ne_bytes());
            assert_eq!(message.device(), DeviceNumber { major, minor });
        }
    }

    #[test]
    fn an_answer_is_read_within_its_bounds() {
        assert_eq!(answer("verity", "V").target("verity"), Ok("V"));
        assert_eq!(answer("verity", "").target("verity"), Ok(""));
        assert_eq!(answer("crypt", "V").target("verity"), Err(AnswerError::TargetType));
        assert_eq!(answer("verity-but-16-by", "V").target("verity"), Err(AnswerError::TargetType));
        assert_eq!(Message::unnamed().target("verity"), Err(AnswerError::TargetCount { found: 0 }));

        let mut message = answer("verity", "V");
        message.put_u32(FLAGS_AT, BUFFER_FULL);
        assert_eq!(message.target("verity"), Err(AnswerError::TooLong));

        for (at, value) in [
            (DATA_START_AT, 0),
            (DATA_START_AT, 4096),
            (DATA_START_AT, u32::MAX),
            (DATA_SIZE_AT, 0),
            (DATA_SIZE_AT, 351),
            (DATA_SIZE_AT, 2049),
            (DATA_SIZE_AT, u32::MAX),
        ] {
            let mut message = answer("verity", "V");
            message.put_u32(at, value);
            assert_eq!(message.target("verity"), Err(AnswerError::Bounds), "{at}: {value}");
        }
        let mut message = answer("verity", "V");
        message.put_u32(DATA_SIZE_AT, 353);
        assert_eq!(message.target("verity"), Err(AnswerError::Text), "the end is cut off");
    }
}
