//! A machine-config from nowhere: never a panic, an error that fits a line, and a salvaged operator only where a valid
//! document would have had the same one. The same bytes as a certificate: a moment or none.
#![no_main]

use astromesh_proto::machine_config::{MAX_SHORT, MachineConfig, not_before_der, yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = not_before_der(bytes);
    let salvaged = MachineConfig::salvage_operator(bytes);
    match MachineConfig::parse(bytes) {
        Ok(config) => {
            assert_eq!(Some(config.operator), salvaged);
            for agent in &config.agents {
                let text = yaml(&agent.document);
                assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            }
        }
        Err(error) => {
            let short = error.short();
            assert!(short.len() <= MAX_SHORT && !short.contains(char::is_control));
        }
    }
});
