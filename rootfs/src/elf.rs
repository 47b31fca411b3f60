//! Reading the few facts about an ELF file that the image's promises are about.

use crate::tree;
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Whether the file starts with ELF's magic bytes.
pub(crate) fn is_elf(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    fs::File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic == b"\x7fELF")
}

/// The ELF files of a tree, sorted, relative to its root.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in tree::walk(root)? {
        if entry.metadata.is_file() && is_elf(&root.join(&entry.path))? {
            found.push(entry.path);
        }
    }
    Ok(found)
}

/// What the dynamic linker is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// The names in `DT_NEEDED`.
    pub(crate) needed: Vec<String>,
    /// Whether the file names an interpreter, that is: can be executed as a program.
    pub(crate) interpreter: bool,
}

/// Parses a 64-bit ELF file; `None` where it is not a sound one.
pub(crate) fn linkage(bytes: &[u8]) -> Option<Linkage> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let interpreter = segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP);
    let sections = header.sections(endian, bytes).ok()?;
    let mut needed = Vec::new();
    if let Some((entries, strings)) = sections.dynamic(endian, bytes).ok()? {
        let strings = sections.strings(endian, bytes, strings).ok()?;
        for entry in entries.iter().filter(|entry| entry.d_tag(endian) == DT_NEEDED) {
            needed.push(String::from_utf8(entry.string(endian, strings).ok()?.to_vec()).ok()?);
        }
    }
    Some(Linkage { needed, interpreter })
}
