//! The unified kernel image: one EFI program that carries kernel, initrd and command line, behind systemd's stub.
//!
//! The root hash is on the command line inside, so the file that firmware starts (and, with Secure Boot, checks) names
//! the one root that may be mounted. Sections and their meaning: systemd-stub(7), and the UAPI group's "Unified Kernel
//! Image" specification. Nothing of the building machine gets in: the same parts are the same file.
//!
//! Refuses a stub without room for the section headers: moving its code would be a linker's work.

use object::LittleEndian as LE;
use object::pe::{IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ, ImageNtHeaders64, ImageSectionHeader};
use object::read::pe::{ImageNtHeaders as _, PeFile64};
use std::fs;
use std::path::{Path, PathBuf};

/// The stub in its package.
pub const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The image could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// Reading a part or writing the image.
    #[error("{action} {path} failed ({source})")]
    CopyPart {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The stub is no EFI program.
    #[error("the EFI stub is refused: {0}; is the pinned systemd-boot-efi whole?")]
    ParseStub(String),
    /// There is no room.
    #[error(
        "the EFI stub has room for {room} section headers, {needed} are needed; pin another systemd-boot-efi"
    )]
    FitHeaders {
        /// Free headers.
        room: usize,
        /// Sections to add.
        needed: usize,
    },
    /// Everything together.
    #[error("the unified kernel image would be larger than 4 GiB")]
    FitImage,
    /// The kernel tells no version.
    #[error("{0} is no bzImage: it has no version string where the boot protocol puts it")]
    ReadKernelVersion(PathBuf),
}

/// What goes into a unified kernel image.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's stub.
    pub stub: &'a Path,
    /// The bzImage.
    pub kernel: &'a Path,
    /// The initramfs.
    pub initrd: &'a Path,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The image's os-release: the boot loader shows and sorts by it.
    pub os_release: &'a str,
}

/// Writes the image to `out`.
pub fn make(parts: &Parts<'_>, out: &Path) -> Result<(), UkiError> {
    let read = |path: &Path| fs::read(path).map_err(at("reading", path));
    let kernel = read(parts.kernel)?;
    let version = kernel_version(&kernel).ok_or_else(|| UkiError::ReadKernelVersion(parts.kernel.into()))?;
    let initrd = read(parts.initrd)?;
    let sections: [(&[u8; 8], &[u8]); 5] = [
        (b".osrel\0\0", parts.os_release.as_bytes()),
        (b".cmdline", parts.cmdline.as_bytes()),
        (b".uname\0\0", version.as_bytes()),
        (b".initrd\0", &initrd),
        // Last: the stub may start the kernel in place, and then what follows it in memory is the kernel's.
        (b".linux\0\0", &kernel),
    ];
    let image = append_sections(read(parts.stub)?, &sections)?;
    fs::write(out, image).map_err(at("writing", out))
}

/// The release of a bzImage, such as `6.12.1`.
///
/// Documentation/arch/x86/boot.rst: at 0x202 the header's signature, at 0x20e the string's place less 0x200.
pub fn kernel_version(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let place = usize::from(u16::from_le_bytes(kernel.get(0x20e..0x210)?.try_into().ok()?)) + 0x200;
    let text = kernel.get(place..place + 256)?.split(|&byte| byte == 0 || byte == b' ').next()?;
    String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty())
}

/// Adds sections behind those that a PE program has. (Microsoft's "PE Format", sections 2 to 4.)
fn append_sections(mut image: Vec<u8>, sections: &[(&[u8; 8], &[u8])]) -> Result<Vec<u8>, UkiError> {
    let refused = |error: object::Error| UkiError::ParseStub(error.to_string());
    let parsed = PeFile64::parse(image.as_slice()).map_err(refused)?;
    let optional = &parsed.nt_headers().optional_header();
    let (page, file_unit) = (optional.section_alignment.get(LE), optional.file_alignment.get(LE));
    let headers_end = optional.size_of_headers.get(LE) as usize;
    let table = parsed.section_table();
    let count = table.len();
    let mut address = table
        .iter()
        .map(|section| section.virtual_address.get(LE).saturating_add(section.virtual_size.get(LE)))
        .max()
        .unwrap_or_default();
    let mut data_size = optional.size_of_initialized_data.get(LE);
    let nt_at = parsed.dos_header().nt_headers_offset() as usize;
    let table_at = nt_at
        + offset_of_optional()
        + usize::from(parsed.nt_headers().file_header().size_of_optional_header.get(LE));
    let room = headers_end.saturating_sub(table_at) / SECTION_HEADER;
    if room < count + sections.len() {
        return Err(UkiError::FitHeaders { room: room.saturating_sub(count), needed: sections.len() });
    }

    let align = |value: u32, unit: u32| value.checked_next_multiple_of(unit).ok_or(UkiError::FitImage);
    let length = |length: usize| u32::try_from(length).map_err(|_| UkiError::FitImage);
    for (index, (name, content)) in sections.iter().enumerate() {
        address = align(address, page)?;
        let place = align(length(image.len())?, file_unit)?;
        let stored = align(length(content.len())?, file_unit)?;
        let mut header = name.to_vec();
        for value in [length(content.len())?, address, stored, place, 0, 0, 0] {
            header.extend(value.to_le_bytes());
        }
        header.extend((IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ).to_le_bytes());
        let at = table_at + SECTION_HEADER * (count + index);
        image[at..at + SECTION_HEADER].copy_from_slice(&header);
        image.resize(place as usize, 0);
        image.extend_from_slice(content);
        image.resize((place + stored) as usize, 0);
        address = address.checked_add(length(content.len())?).ok_or(UkiError::FitImage)?;
        data_size = data_size.checked_add(stored).ok_or(UkiError::FitImage)?;
    }

    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let total = u16::try_from(count + sections.len()).map_err(|_| UkiError::FitImage)?;
    put(nt_at + NUMBER_OF_SECTIONS, &total.to_le_bytes());
    put(nt_at + SIZE_OF_INITIALIZED_DATA, &data_size.to_le_bytes());
    put(nt_at + SIZE_OF_IMAGE, &align(address, page)?.to_le_bytes());
    // Optional for programs; a wrong one would be worse than none.
    put(nt_at + CHECKSUM, &[0; 4]);
    Ok(image)
}

/// Bytes of a section header.
const SECTION_HEADER: usize = size_of::<ImageSectionHeader>();

/// Where fields stand, from the `PE\0\0` signature on.
const NUMBER_OF_SECTIONS: usize = 4 + 2;
const SIZE_OF_INITIALIZED_DATA: usize = 24 + 8;
const SIZE_OF_IMAGE: usize = 24 + 56;
const CHECKSUM: usize = 24 + 64;

const fn offset_of_optional() -> usize {
    core::mem::offset_of!(ImageNtHeaders64, optional_header)
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UkiError {
    let path = path.to_owned();
    move |source| UkiError::CopyPart { action, path, source }
}
