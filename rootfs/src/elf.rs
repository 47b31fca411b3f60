//! Reading the few facts about an ELF file that the image's promises are about.

use crate::tree;
use object::Endianness;
use object::elf::{DT_NEEDED, DT_RUNPATH, ET_DYN, FileHeader64, PT_INTERP};
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

/// A program that is not what runs without a dynamic linker at an address chosen anew each time.
#[derive(Debug, thiserror::Error)]
pub enum NotStaticPie {
    /// It can't be read.
    #[error("{path} can't be read: {source}")]
    ReadProgram {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{path} is not static-pie ({found}): build it with -C target-feature=+crt-static and -C relocation-model=pie"
    )]
    CheckProgram {
        /// The program.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
}

/// Makes sure that a program is static-pie: of type `DYN`, with no interpreter, needing no library.
pub fn require_static_pie(path: &Path) -> Result<(), NotStaticPie> {
    let read = |source| NotStaticPie::ReadProgram { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(read)?;
    let found = match (linkage(&bytes), is_position_independent(&bytes)) {
        (None, _) => "no sound ELF file",
        (Some(linkage), _) if linkage.interpreter => "it names an interpreter",
        (Some(linkage), _) if !linkage.needed.is_empty() => "it needs shared libraries",
        (Some(_), false) => "it is loaded at a fixed address",
        (Some(_), true) => return Ok(()),
    };
    Err(NotStaticPie::CheckProgram { path: path.to_owned(), found })
}

fn is_position_independent(bytes: &[u8]) -> bool {
    FileHeader64::<Endianness>::parse(bytes)
        .is_ok_and(|header| header.endian().is_ok_and(|endian| header.e_type(endian) == ET_DYN))
}

/// What the dynamic linker is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// The names in `DT_NEEDED`.
    pub(crate) needed: Vec<String>,
    /// The absolute directories of `DT_RUNPATH`, which ld.so searches first for this file alone. Those below `$ORIGIN`
    /// are left out: wheels name them by habit and keep nothing there.
    pub(crate) runpath: Vec<PathBuf>,
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
    let (mut needed, mut runpath) = (Vec::new(), Vec::new());
    if let Some((entries, strings)) = sections.dynamic(endian, bytes).ok()? {
        let strings = sections.strings(endian, bytes, strings).ok()?;
        for entry in entries {
            let text = || String::from_utf8(entry.string(endian, strings).ok()?.to_vec()).ok();
            match entry.d_tag(endian) {
                DT_NEEDED => needed.push(text()?),
                DT_RUNPATH => {
                    runpath.extend(text()?.split(':').filter(|dir| dir.starts_with('/')).map(PathBuf::from));
                }
                _ => {}
            }
        }
    }
    Some(Linkage { needed, runpath, interpreter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_dynamic_linker_is_not_static_pie() {
        let this = std::env::current_exe().unwrap();
        assert!(matches!(require_static_pie(&this), Err(NotStaticPie::CheckProgram { .. })));
        let text = Path::new(file!()).file_name().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(text);
        assert!(matches!(require_static_pie(&source), Err(NotStaticPie::CheckProgram { .. })));
    }
}
