//! The verity target's table line: what the kernel is told to open, and what it says it has open.
//!
//! One type, [`VerityTable`], goes both ways, so that `doctor` compares the live root hash with the signed one and not
//! two strings. Reading back is strict: an option that we never set (`ignore_corruption`, `check_at_most_once`, ...)
//! weakens the device, and a line that has one is refused, not skipped.
//!
//! Refuses other block sizes, other algorithms and forward error correction. Allocates nothing.
//!
//! Source: Documentation/admin-guide/device-mapper/verity.rst, and `verity_ctr()` / `verity_status()` in
//! drivers/md/dm-verity-target.c.

use core::{
    fmt::{self, Write},
    str::{FromStr, SplitAsciiWhitespace},
};

use crate::{
    BLOCK_SIZE, RootHash, Salt, Superblock,
    layout::{HASH_START_BLOCK, MAX_DATA_BLOCKS},
};

/// Name of the device-mapper target.
pub const TARGET: &str = "verity";

/// 512-byte sectors in a block: what device-mapper counts lengths in.
pub const SECTORS_PER_BLOCK: u64 = BLOCK_SIZE as u64 / 512;

/// Longest table line: the fixed fields take at most 192 bytes, the salt 512, the options 124.
pub const LINE_MAX: usize = 1024;

/// A table line, without its terminator.
pub type TableLine = heapless::String<LINE_MAX>;

const ALGORITHM: &str = "sha256";
const HASH_TYPE: &str = "1";
const RESTART_ON_CORRUPTION: &str = "restart_on_corruption";
const ROOT_HASH_SIG_KEY_DESC: &str = "root_hash_sig_key_desc";

/// A block device by its numbers. Numbers, not paths: nothing between our choice and the kernel's can be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Which driver; 12 bits.
    pub major: u32,
    /// Which of its devices; 20 bits.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = TableError;

    /// Reads `MAJOR:MINOR`, as in `/sys/class/block/NAME/dev` (without the newline).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').ok_or(TableError::Device)?;
        let number =
            |text| decimal(text).and_then(|number| u32::try_from(number).ok()).ok_or(TableError::Device);
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// What the kernel does when a block does not match its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorruption {
    /// Reboot the machine, so that the boot counter brings back the other slot. For the root.
    #[default]
    Restart,
    /// Fail the read with `EIO` and remember it in the status. For extensions, and for tests that look at it.
    Fail,
}

/// Description of the key (type `user`) that holds the PKCS#7 signature over the root hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureKey(heapless::String<{ SignatureKey::MAX }>);

impl SignatureKey {
    /// Longest description, our own limit: an extension's name and a prefix fit.
    pub const MAX: usize = 64;

    /// A description of 1 to 64 visible ASCII characters. Blanks would split the table line, `\` would escape in it.
    pub fn new(description: &str) -> Result<Self, TableError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if description.is_empty() || !description.bytes().all(plain) {
            return Err(TableError::SignatureKey);
        }
        description.try_into().map(Self).map_err(|_| TableError::SignatureKey)
    }

    /// The description.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A verity device, as the kernel is told to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerityTable {
    /// Partition with the file system.
    pub data: DeviceNumber,
    /// Partition with superblock and tree.
    pub hash: DeviceNumber,
    /// Blocks of the data device that the tree covers.
    pub data_blocks: u64,
    /// Block of the hash device where the tree begins.
    pub hash_start: u64,
    /// What is hashed before each block.
    pub salt: Salt,
    /// The only trusted field.
    pub root_hash: RootHash,
    /// The reaction to a wrong block.
    pub on_corruption: OnCorruption,
    /// Where the kernel finds the signature; `None` where the root hash itself came signed.
    pub signature: Option<SignatureKey>,
}

impl VerityTable {
    /// The table for a hash device that begins with `superblock`: restart on corruption, no signature.
    pub fn new(data: DeviceNumber, hash: DeviceNumber, superblock: &Superblock, root_hash: RootHash) -> Self {
        Self {
            data,
            hash,
            data_blocks: superblock.data_blocks(),
            hash_start: HASH_START_BLOCK,
            salt: superblock.salt().clone(),
            root_hash,
            on_corruption: OnCorruption::default(),
            signature: None,
        }
    }

    /// Length of the device in 512-byte sectors.
    pub fn sectors(&self) -> Result<u64, TableError> {
        self.data_blocks
            .checked_mul(SECTORS_PER_BLOCK)
            .filter(|_| (1..=MAX_DATA_BLOCKS).contains(&self.data_blocks))
            .ok_or(TableError::DataBlocks)
    }

    /// The target's parameters.
    pub fn line(&self) -> Result<TableLine, TableError> {
        let mut line = TableLine::new();
        write!(line, "{self}").map_err(|_| TableError::LineTooLong)?;
        Ok(line)
    }
}

impl fmt::Display for VerityTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, hash, data_blocks, hash_start, salt, root_hash, on_corruption, signature } = self;
        write!(f, "{HASH_TYPE} {data} {hash} {BLOCK_SIZE} {BLOCK_SIZE} {data_blocks} {hash_start} ")?;
        write!(f, "{ALGORITHM} {root_hash} {salt}")?;
        let restart = *on_corruption == OnCorruption::Restart;
        let words = u8::from(restart) + 2 * u8::from(signature.is_some());
        if words > 0 {
            write!(f, " {words}")?;
        }
        if restart {
            write!(f, " {RESTART_ON_CORRUPTION}")?;
        }
        if let Some(key) = signature {
            write!(f, " {ROOT_HASH_SIG_KEY_DESC} {}", key.as_str())?;
        }
        Ok(())
    }
}

impl FromStr for VerityTable {
    type Err = TableError;

    /// Reads the parameters back, as `DM_TABLE_STATUS` with `DM_STATUS_TABLE_FLAG` gives them.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().ok_or(TableError::Truncated);
        require(word()? == HASH_TYPE, TableError::HashType)?;
        let data = word()?.parse()?;
        let hash = word()?.parse()?;
        for _ in ["data", "hash"] {
            require(decimal(word()?) == Some(BLOCK_SIZE as u64), TableError::BlockSize)?;
        }
        let data_blocks = decimal(word()?).ok_or(TableError::DataBlocks)?;
        let hash_start = decimal(word()?).ok_or(TableError::HashStart)?;
        require(word()? == ALGORITHM, TableError::Algorithm)?;
        let root_hash = word()?.parse().map_err(|_| TableError::RootHash)?;
        let salt = word()?.parse().map_err(|_| TableError::Salt)?;
        let (on_corruption, signature) = options(words)?;
        let table = Self { data, hash, data_blocks, hash_start, salt, root_hash, on_corruption, signature };
        table.sectors()?;
        Ok(table)
    }
}

fn options(mut words: SplitAsciiWhitespace<'_>) -> Result<(OnCorruption, Option<SignatureKey>), TableError> {
    let (mut on_corruption, mut signature) = (OnCorruption::Fail, None);
    let Some(count) = words.next() else { return Ok((on_corruption, signature)) };
    require(decimal(count) == Some(words.clone().count() as u64), TableError::OptionCount)?;
    while let Some(word) = words.next() {
        match word {
            RESTART_ON_CORRUPTION if on_corruption == OnCorruption::Fail => {
                on_corruption = OnCorruption::Restart;
            }
            ROOT_HASH_SIG_KEY_DESC if signature.is_none() => {
                signature = Some(SignatureKey::new(words.next().ok_or(TableError::SignatureKey)?)?);
            }
            _ => return Err(TableError::ForeignOption),
        }
    }
    Ok((on_corruption, signature))
}

/// What the kernel has seen of a verity device since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `V`: every block read so far matched its digest.
    Valid,
    /// `C`: at least one did not.
    Corrupt,
}

impl FromStr for Verdict {
    type Err = TableError;

    /// Reads the target's status, as `DM_TABLE_STATUS` without flags gives it.
    fn from_str(status: &str) -> Result<Self, Self::Err> {
        match status.trim_ascii_end() {
            "V" => Ok(Self::Valid),
            "C" => Ok(Self::Corrupt),
            _ => Err(TableError::Verdict),
        }
    }
}

fn require(holds: bool, otherwise: TableError) -> Result<(), TableError> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// A decimal number without sign, as the kernel prints it. (`str::parse` takes a leading `+`.)
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Why a table can't be written, or a line from the kernel is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Fewer than the ten fixed fields.
    #[error("verity table refused: the line ends before its tenth field; is the device really a verity one?")]
    Truncated,
    /// The first field is not 1.
    #[error("verity table refused: hash type is not 1; the device was opened by something else")]
    HashType,
    /// Not `MAJOR:MINOR`.
    #[error("verity table refused: a device is not MAJOR:MINOR; take the numbers from /sys/class/block")]
    Device,
    /// Not 4096.
    #[error("verity table refused: block size is not 4096; the device was opened by something else")]
    BlockSize,
    /// Zero, not a number, or more than a device can hold.
    #[error("verity table refused: number of data blocks out of range; read the superblock again")]
    DataBlocks,
    /// Not a number.
    #[error("verity table refused: hash start is not a number; the device was opened by something else")]
    HashStart,
    /// Not `sha256`.
    #[error("verity table refused: algorithm is not sha256; the device was opened by something else")]
    Algorithm,
    /// Not 64 hexadecimal digits.
    #[error(
        "verity table refused: root hash is not 64 hexadecimal digits; compare it with the kernel command line"
    )]
    RootHash,
    /// Neither `-` nor hexadecimal digits.
    #[error("verity table refused: salt is not hexadecimal; the device was opened by something else")]
    Salt,
    /// The number before the options is not how many words follow.
    #[error("verity table refused: option count is wrong; the device was opened by something else")]
    OptionCount,
    /// An option that this project never sets, or one twice.
    #[error(
        "verity table refused: it has an option that this system never sets; treat the node as tampered with"
    )]
    ForeignOption,
    /// Not 1 to 64 visible characters without a backslash.
    #[error("verity signature key refused: use 1 to 64 visible ASCII characters without a backslash")]
    SignatureKey,
    /// More than [`LINE_MAX`] bytes.
    #[error("verity table refused: the line exceeds {LINE_MAX} bytes; use a shorter salt")]
    LineTooLong,
    /// Neither `V` nor `C`.
    #[error("verity status refused: neither V nor C; is the device really a verity one?")]
    Verdict,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeefff0e0d0c0b0a090807060504030201000";

    fn table() -> VerityTable {
        VerityTable {
            data: DeviceNumber { major: 254, minor: 2 },
            hash: DeviceNumber { major: 254, minor: 3 },
            data_blocks: 129,
            hash_start: 1,
            salt: Salt::new(&[0xaa, 0xbb]).unwrap(),
            root_hash: HASH.parse().unwrap(),
            on_corruption: OnCorruption::Restart,
            signature: None,
        }
    }

    #[test]
    fn the_line_is_the_one_the_kernel_documents() {
        let fixed = format!("1 254:2 254:3 4096 4096 129 1 sha256 {HASH} aabb");
        let mut table = table();
        assert_eq!(table.line().unwrap(), *format!("{fixed} 1 restart_on_corruption"));
        table.signature = Some(SignatureKey::new("sysext:gpu").unwrap());
        let signed = format!("{fixed} 3 restart_on_corruption root_hash_sig_key_desc sysext:gpu");
        assert_eq!(table.line().unwrap(), *signed);
        table.on_corruption = OnCorruption::Fail;
        assert_eq!(table.line().unwrap(), *format!("{fixed} 2 root_hash_sig_key_desc sysext:gpu"));
        table.signature = None;
        table.salt = Salt::default();
        assert_eq!(table.line().unwrap(), *fixed.replace(" aabb", " -"));
    }

    #[test]
    fn every_table_survives_the_way_through_its_line() {
        for on_corruption in [OnCorruption::Restart, OnCorruption::Fail] {
            for signature in [None, Some(SignatureKey::new("k").unwrap())] {
                for salt in [Salt::default(), Salt::new(&[9; Salt::MAX]).unwrap()] {
                    let table = VerityTable { on_corruption, signature: signature.clone(), salt, ..table() };
                    assert_eq!(table.line().unwrap().parse(), Ok(table));
                }
            }
        }
    }

    #[test]
    fn the_longest_table_fits_its_line() {
        let far = DeviceNumber { major: u32::MAX, minor: u32::MAX };
        let table = VerityTable {
            data: far,
            hash: far,
            data_blocks: u64::MAX,
            hash_start: u64::MAX,
            salt: Salt::new(&[0xff; Salt::MAX]).unwrap(),
            signature: Some(SignatureKey::new(&"k".repeat(SignatureKey::MAX)).unwrap()),
            ..table()
        };
        assert!(table.line().unwrap().len() <= 192 + 512 + 124);
    }

    #[test]
    fn a_line_with_anything_foreign_in_it_is_refused() {
        let good = table().line().unwrap();
        let parse = |from: &str, to: &str| good.replacen(from, to, 1).parse::<VerityTable>().unwrap_err();
        assert_eq!(parse("1 254", "0 254"), TableError::HashType);
        assert_eq!(parse("254:2", "/dev/vda2"), TableError::Device);
        assert_eq!(parse("254:2", "254:+2"), TableError::Device);
        assert_eq!(parse("4096 4096", "4096 512"), TableError::BlockSize);
        assert_eq!(parse(" 129 ", " 0 "), TableError::DataBlocks);
        assert_eq!(parse(" 129 ", " 99999999999999999999 "), TableError::DataBlocks);
        assert_eq!(parse(" 129 1 ", " 129 -1 "), TableError::HashStart);
        assert_eq!(parse("sha256", "sha1"), TableError::Algorithm);
        assert_eq!(parse("0011", "0g11"), TableError::RootHash);
        assert_eq!(parse(" aabb ", " aab "), TableError::Salt);
        assert_eq!(parse(" 1 restart", " 2 restart"), TableError::OptionCount);
        assert_eq!(parse("restart_on", "ignore"), TableError::ForeignOption);
        assert_eq!(parse("1 restart_", "2 check_at_most_once restart_"), TableError::ForeignOption);
        assert_eq!(parse("1 restart_", "2 restart_on_corruption restart_"), TableError::ForeignOption);
        assert_eq!(parse("1 restart_on_corruption", "1 root_hash_sig_key_desc"), TableError::SignatureKey);
        assert_eq!(good[.."1 254:2 254:3 4096".len()].parse::<VerityTable>(), Err(TableError::Truncated));
    }

    #[test]
    fn a_signature_key_that_could_split_the_line_is_refused() {
        for bad in ["", "a b", "a\\b", "a\nb", "é", &"k".repeat(SignatureKey::MAX + 1)] {
            assert_eq!(SignatureKey::new(bad), Err(TableError::SignatureKey), "{bad:?}");
        }
    }

    #[test]
    fn the_status_is_one_letter() {
        assert_eq!("V".parse(), Ok(Verdict::Valid));
        assert_eq!("C".parse(), Ok(Verdict::Corrupt));
        for bad in ["", "v", "VC", "V 1"] {
            assert_eq!(bad.parse::<Verdict>(), Err(TableError::Verdict));
        }
    }
}
