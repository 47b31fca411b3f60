//! An accepted table line names a table that reads back as itself from its own line.
#![no_main]

use astromesh_verity::{VerityTable, table::Verdict};

libfuzzer_sys::fuzz_target!(|line: &str| {
    if let Ok(table) = line.parse::<VerityTable>() {
        let line = table.line().expect("the longest table fits its line");
        assert_eq!(line.parse(), Ok(table));
    }
    let _ = line.parse::<Verdict>();
});
