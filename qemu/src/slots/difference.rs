//! Whether anything was written to slots or boot partition: what a refusal must leave as it was.
//!
//! Labels alone don't say it: an installer gives a slot its label last, long after it began to write.

use super::{Slots, SlotsError, Window};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// Files by their place.
type Files = BTreeMap<String, Vec<u8>>;

impl Slots {
    /// What differs from another disk in the slots and on the boot partition, if anything does: labels, PARTUUIDs, flags,
    /// names and every byte.
    pub fn difference(&self, other: &Self) -> Result<Option<String>, SlotsError> {
        let (slots, others) = (self.slots()?, other.slots()?);
        if slots != others {
            return Ok(Some(format!("the slots are {slots:?}, not {others:?}")));
        }
        for slot in slots {
            let differs = || {
                let (mut one, mut two) = (File::open(&self.path)?, File::open(&other.path)?);
                let mut rest = slot.bytes;
                one.seek(SeekFrom::Start(slot.start))?;
                two.seek(SeekFrom::Start(slot.start))?;
                let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
                while rest > 0 {
                    let piece = here.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                    one.read_exact(&mut here[..piece])?;
                    two.read_exact(&mut there[..piece])?;
                    if here[..piece] != there[..piece] {
                        return Ok(true);
                    }
                    rest -= piece as u64;
                }
                Ok(false)
            };
            if differs().map_err(self.failed(&slot.label))? {
                return Ok(Some(format!("bytes of partition {} ({})", slot.number, slot.label)));
            }
        }
        let (files, others) = (self.files()?, other.files()?);
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        if names(&files) != names(&others) {
            return Ok(Some(format!("the files are {:?}, not {:?}", names(&files), names(&others))));
        }
        let other = files.iter().find(|(name, content)| others.get(*name) != Some(*content));
        Ok(other.map(|(name, _)| format!("bytes of the file {name}")))
    }

    /// Every file of the boot partition.
    fn files(&self) -> Result<Files, SlotsError> {
        fn collect(folder: &fatfs::Dir<'_, Window>, place: &str, found: &mut Files) -> io::Result<()> {
            for entry in folder.iter() {
                let entry = entry?;
                let name = entry.file_name();
                let place = format!("{place}/{name}");
                if entry.is_file() {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content)?;
                    found.insert(place, content);
                } else if name != "." && name != ".." {
                    collect(&entry.to_dir(), &place, found)?;
                }
            }
            Ok(())
        }
        self.on_esp("the boot partition", |root| {
            let mut found = Files::new();
            collect(root, "", &mut found)?;
            Ok(found)
        })
    }
}
