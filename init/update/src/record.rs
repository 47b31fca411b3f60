//! What is kept on `/var`: the attempts, written so that a power cut leaves the old list or the new one.

use astromesh_node::durable;
use astromesh_proto::update::{Record, parse};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Where it lies.
pub const FILE: &str = "/var/lib/update/record";

/// Reads it. One that can't be read is put aside, not lost: an empty list is better than no updates.
pub fn read(path: &Path) -> Record {
    let mut bytes = Vec::new();
    let limit = astromesh_proto::update::MAX_FILE as u64 + 1;
    let Ok(file) = File::open(path) else { return Record::default() };
    let read = file.take(limit).read_to_end(&mut bytes);
    if let Some(record) = read.ok().and_then(|_| parse(&bytes)) {
        return record;
    }
    log::error!("{} can't be read; it is put aside as record.unreadable", path.display());
    let _ = std::fs::rename(path, path.with_extension("unreadable"));
    Record::default()
}

/// Writes it.
pub fn write(path: &Path, record: &Record) -> io::Result<()> {
    durable::replace(path, &serde_json::to_vec(record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_no_record_is_put_aside() {
        let folder = std::env::temp_dir().join(format!("astromesh-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("record");
        assert_eq!(read(&path), Record::default());
        write(&path, &Record::default()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), br#"{"attempts":[]}"#);
        std::fs::write(&path, b"{\"attempts\":[{").unwrap();
        assert_eq!(read(&path), Record::default());
        assert!(!path.exists() && folder.join("record.unreadable").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
