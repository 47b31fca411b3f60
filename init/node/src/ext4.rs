//! How long an ext4 is and what it is made of, by its superblock, and the next step of growing it.
//!
//! Two processes must agree on it: PID 1, which mounts `/var` and decides whether it has to grow, and the job `grow`, which
//! has the kernel do it. Nothing here writes.
//!
//! **Steps.** The kernel adds whole flex groups, each in a transaction of its own, and what it does for one grows with the
//! size of the file system. So one step ends with the flex group that it begins in: it is short enough that whoever waits
//! for the file system, or for the node to go down, waits for seconds at most, and power that fails costs one step.
//!
//! Source: fs/ext4/ext4.h, `struct ext4_super_block`; fs/ext4/resize.c, `ext4_setup_next_flex_gd()`.

use std::os::fd::AsFd;

/// Where the superblock begins.
const START: u64 = 1024;
/// Its bytes.
const LENGTH: usize = 1024;
/// Of the incompatible features: the journal must be replayed.
const RECOVER: u32 = 0x4;
/// Of the incompatible features: block counts have an upper half.
const WIDE: u32 = 0x80;
/// Fewest block groups of a step: what mke2fs(8) makes a flex group of unless it is told otherwise. Without flex groups the
/// kernel adds one block group after the other, and a step for each of them would flush the journal far too often.
const LEAST_GROUPS: u64 = 16;

/// What the kernel takes for fixed while an ext4 is mounted, unless it changes it itself. Two that are equal are of the same
/// length and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ext4 {
    /// Bytes in a block.
    block: u64,
    /// Blocks in the file system.
    blocks: u64,
    /// Blocks in a block group.
    group: u64,
    /// Block groups in a flex group, as a power of two.
    flex: u8,
    /// Compatible, incompatible and read-only compatible features, but for the journal's state.
    features: [u32; 3],
    /// Blocks kept free for group descriptors, and the first group whose descriptors lie elsewhere.
    descriptors: (u16, u32),
}

impl Ext4 {
    /// Reads it from its device; `None` where there is none. While the file system is mounted this is the kernel's own copy.
    pub fn read(device: impl AsFd) -> Option<Self> {
        let mut superblock = [0; LENGTH];
        let mut filled = 0;
        while filled < LENGTH {
            match rustix::io::pread(&device, &mut superblock[filled..], START + filled as u64) {
                Ok(0) | Err(_) => return None,
                Ok(count) => filled += count,
            }
        }
        Self::parse(&superblock)
    }

    fn parse(superblock: &[u8; LENGTH]) -> Option<Self> {
        let half = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        if half(0x38) != 0xef53 {
            return None;
        }
        let block = 1024_u64.checked_shl(word(0x18)).filter(|block| (1024..=65536).contains(block))?;
        let [compatible, incompatible, read_only] = [0x5c, 0x60, 0x64].map(word);
        let high = if incompatible & WIDE != 0 { u64::from(word(0x150)) } else { 0 };
        Some(Self {
            block,
            blocks: high << 32 | u64::from(word(0x4)),
            group: Some(u64::from(word(0x20))).filter(|blocks| *blocks > 0)?,
            flex: superblock[0x174],
            features: [compatible, incompatible & !RECOVER, read_only],
            descriptors: (half(0xce), word(0x104)),
        })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block)
    }

    /// Whether it is shorter than a device of so many bytes.
    pub fn is_shorter_than(&self, room: u64) -> bool {
        self.blocks < room / self.block
    }

    /// How many blocks it should have next on a device of so many bytes: up to the end of a flex group, or of the device.
    /// `None` when it fills the device.
    pub fn next_step(&self, room: u64) -> Option<u64> {
        let room = room / self.block;
        if room <= self.blocks {
            return None;
        }
        let groups = 1_u64.checked_shl(self.flex.into()).unwrap_or(u64::MAX).max(LEAST_GROUPS);
        let unit = self.group.saturating_mul(groups);
        let end = (self.blocks / unit).saturating_add(1).saturating_mul(unit);
        Some(end.min(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u32 = 32768;

    fn superblock(values: &[(usize, u32)]) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        for (at, value) in [(0x4, 4096), (0x18, 2), (0x20, GROUP)].iter().chain(values) {
            bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn parse(values: &[(usize, u32)]) -> Option<Ext4> {
        Ext4::parse(&superblock(values))
    }

    #[test]
    fn the_length_is_blocks_times_their_size_and_the_upper_half_counts_only_with_its_feature() {
        let wide = parse(&[(0x60, WIDE), (0x150, 1)]).unwrap();
        assert_eq!(wide.bytes(), ((1 << 32) + 4096) * 4096);
        let small = parse(&[(0x18, 0), (0x150, 1)]).unwrap();
        assert_eq!(small.bytes(), 4096 * 1024);
    }

    #[test]
    fn what_is_no_ext4_has_no_length() {
        assert_eq!(Ext4::parse(&[0; LENGTH]), None);
        assert_eq!(parse(&[(0x20, 0)]), None, "no blocks in a group");
        for log_block in [7, 63, 64, u32::MAX] {
            assert_eq!(parse(&[(0x18, log_block)]), None);
        }
    }

    #[test]
    fn a_device_is_read_where_the_superblock_lies_and_one_that_is_too_short_is_none() {
        let path = std::env::temp_dir().join(format!("astromesh-ext4-{}", std::process::id()));
        let bytes = [[0; LENGTH], superblock(&[])].concat();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Ext4::read(std::fs::File::open(&path).unwrap()), parse(&[]));
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Ext4::read(std::fs::File::open(&path).unwrap()), None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn replaying_a_journal_is_seen_only_where_it_changed_the_shape() {
        let before = parse(&[(0x60, RECOVER)]).unwrap();
        assert_eq!(parse(&[]), Some(before), "the state of the journal is none of it");
        // A length, descriptors that lie elsewhere from some group on, or a feature less.
        for changed in [(0x4, 8192), (0x104, 2), (0x5c, 0x10), (0xcc, 7 << 16)] {
            assert_ne!(parse(&[changed]), Some(before), "{changed:?}");
        }
    }

    /// The lengths of all steps to `room` blocks.
    fn steps(mut ext4: Ext4, room: u64) -> Vec<u64> {
        let mut steps = Vec::new();
        while let Some(next) = ext4.next_step(room * 4096) {
            assert!(next > ext4.blocks && next <= room, "{next}");
            steps.push(next - ext4.blocks);
            ext4.blocks = next;
        }
        assert_eq!(ext4.blocks.max(room), ext4.blocks);
        steps
    }

    #[test]
    fn every_step_ends_with_the_flex_group_it_begins_in_or_with_the_device() {
        let group = u64::from(GROUP);
        let flex = parse(&[(0x174, 10)]).unwrap();
        // 64 TiB, less a little.
        let all = steps(flex, (64 << 40) / 4096 - 55_000);
        assert_eq!(all.len(), 512);
        assert!(all.iter().all(|step| *step <= 1024 * group));
        // Small disks are one step.
        assert_eq!(steps(flex, 5_000_000).len(), 1);
        // As mke2fs makes them, and without flex groups.
        for log in [4, 0] {
            let ext4 = parse(&[(0x174, log)]).unwrap();
            assert_eq!(steps(ext4, 40 * group), [16 * group - 4096, 16 * group, 8 * group]);
        }
    }

    #[test]
    fn nothing_is_left_to_do_on_a_device_that_is_full_shorter_or_hostile() {
        let ext4 = parse(&[]).unwrap();
        for room in [0, 1, 4096 * 4096, 4096 * 4096 + 4095] {
            assert_eq!(ext4.next_step(room), None, "{room}");
            assert!(!ext4.is_shorter_than(room));
        }
        assert!(ext4.is_shorter_than(4097 * 4096));
        for flex in [63, 64, 255] {
            let ext4 = parse(&[(0x174, flex), (0x20, u32::MAX)]).unwrap();
            assert_eq!(ext4.next_step(u64::MAX), Some(u64::MAX / 4096));
        }
    }
}
