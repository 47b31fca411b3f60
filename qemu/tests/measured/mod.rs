//! What the observer in a node read from the machine's TPM (`init/observer`): its registers, and the firmware's log of them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What stands before each of its lines on the console.
const MARK: &str = "observer: measured ";
/// What ends them.
pub const END: &str = "observer: measured {\"end\":true}";

/// A line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Register { register: u32, value: String },
    Piece { piece: usize, of: usize, hex: String },
    End { end: bool },
}

/// What the TPM held.
#[derive(Debug, Default)]
pub struct Measured {
    /// The registers of the SHA-256 bank, in hex.
    registers: BTreeMap<u32, String>,
    /// The firmware's log.
    pub log: Vec<u8>,
}

impl Measured {
    /// Reads it off the console; an error where a piece is missing.
    pub fn read(console: &str) -> Result<Self, String> {
        let (mut seen, mut pieces, mut length) = (Self::default(), BTreeMap::new(), 0);
        for line in console.lines().filter_map(|line| Some(line.split_once(MARK)?.1)) {
            let parsed = serde_json::from_str(line.trim_end());
            match parsed.map_err(|error| format!("{line:?} is no line of the observer: {error}"))? {
                Line::Register { register, value } => {
                    seen.registers.insert(register, value.to_ascii_lowercase());
                }
                Line::Piece { piece, of, hex } => {
                    length = of;
                    pieces.insert(piece, hex);
                }
                Line::End { end } => assert!(end),
            }
        }
        let hex: String = pieces.into_values().collect();
        let pairs = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
        let bytes = pairs.map(|pair| u8::from_str_radix(&pair, 16)).collect::<Result<_, _>>();
        seen.log = bytes.map_err(|error| format!("the log is no hex: {error}"))?;
        match seen.log.len() {
            whole if whole == length => Ok(seen),
            less => Err(format!("{less} of {length} bytes of the log came")),
        }
    }

    /// What a register held, in hex; empty when it was not told.
    pub fn register(&self, register: u32) -> &str {
        self.registers.get(&register).map_or("", String::as_str)
    }
}
