//! A machine-config from nowhere: never a panic, an error that fits a line, and a salvaged operator only where a valid
//! document would have had the same one.
#![no_main]

use astromesh_proto::machine_config::{MAX_SHORT, MachineConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let salvaged = MachineConfig::salvage_operator(bytes);
    match MachineConfig::parse(bytes) {
        Ok(config) => assert_eq!(Some(config.operator), salvaged),
        Err(error) => {
            let short = error.short();
            assert!(short.len() <= MAX_SHORT && !short.contains(char::is_control));
        }
    }
});
