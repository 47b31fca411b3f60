//! Promise: what a machine-config says of an agent is what the runtime's own reader of YAML reads.
//!
//! The reader is PyYAML of the staged tree, run through the tree's own `ld.so`. What is compared with is the same value as
//! JSON, read by Python's `json`, so that neither side is ours.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

use astromesh_proto::machine_config::yaml;
use astromesh_rootfs::{BuildOptions, build};
use serde_json::{Map, Number, Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Reads pairs of lines, JSON and YAML, and counts those that aren't the same value of the same types.
const COMPARE: &str = r#"
import json, sys
sys.path.append(sys.argv[1])
import yaml

wrong, pairs = 0, 0
lines = open(sys.argv[2], encoding="utf-8", newline="\n").read().split("\n")
for expected, text in zip(lines[0::2], lines[1::2]):
    pairs += 1
    try:
        read = yaml.safe_load(text)
    except Exception as error:
        read = error
    # repr() tells 1 from 1.0 and from True, and text from bytes.
    if repr(read) != repr(json.loads(expected)):
        wrong += 1
        if wrong <= 3:
            print(ascii(text)[:300], "is read as", ascii(read)[:300], file=sys.stderr)
print(pairs, wrong)
"#;

fn stage() -> PathBuf {
    let out = tempfile::tempdir().unwrap();
    build(&BuildOptions::new(out.path(), "0.0.0").unwrap(), &|line| eprintln!("{line}")).unwrap().stage
}

/// How many of `values` the runtime's reader reads as another value once `write` has written them; with what it said.
fn misread(values: &[Value], write: impl Fn(&Value) -> String) -> (usize, String) {
    let (stage, file) = (stage(), tempfile::NamedTempFile::new().unwrap());
    let mut lines = String::new();
    for value in values {
        lines.extend([value.to_string().as_str(), "\n", write(value).trim_end_matches('\n'), "\n"]);
    }
    fs::write(file.path(), lines).unwrap();
    let mut command = Command::new(stage.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(stage.join("usr/lib/x86_64-linux-gnu"));
    command.arg(stage.join("usr/bin/python3.13")).args(["-I", "-S", "-B", "-c", COMPARE]).env_clear();
    let end = command.arg(stage.join("usr/lib/astromesh/site")).arg(file.path()).output().unwrap();
    let (counts, said) = (String::from_utf8(end.stdout).unwrap(), String::from_utf8_lossy(&end.stderr));
    assert!(end.status.success(), "{said}");
    let (pairs, wrong) = counts.trim().split_once(' ').unwrap();
    assert_eq!(pairs.parse::<usize>().unwrap(), values.len());
    (wrong.parse().unwrap(), said.into_owned())
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn character(&mut self) -> char {
        let code = match self.below(6) {
            0 => self.below(0x20),
            1 => 0x7f + self.below(0x30),
            2 => self.below(0x1_0000),
            3 => 0x1_0000 + self.below(0x10_0000),
            _ => 0x20 + self.below(0x5f),
        };
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{2028}')
    }

    fn text(&mut self) -> String {
        // Words that YAML 1.1 has a meaning for, and then whatever comes.
        const WORDS: [&str; 16] = [
            "",
            "~",
            "null",
            "yes",
            "Off",
            "=",
            "<<",
            "1e3",
            "0x1f",
            "1:30",
            "2024-01-01",
            ".inf",
            "- a",
            "a: b",
            "# c",
            "'\"\\",
        ];
        match self.below(4) {
            0 => WORDS[usize::try_from(self.below(16)).unwrap()].to_owned(),
            1 => (0..self.below(400)).map(|_| self.character()).collect(),
            _ => (0..self.below(12)).map(|_| self.character()).collect(),
        }
    }

    fn number(&mut self) -> Number {
        let float = match self.below(3) {
            0 => return Number::from(self.next()),
            1 => return Number::from(self.next().cast_signed() >> self.below(64)),
            _ if self.below(2) == 0 => f64::from_bits(self.next()),
            // As people write them.
            _ => {
                let exponent = i32::try_from(self.below(40)).unwrap() - 20;
                f64::from(u32::try_from(self.below(1000)).unwrap()) * 10_f64.powi(exponent)
            }
        };
        Number::from_f64(float).unwrap_or_else(|| Number::from(0))
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Number(self.number()),
            3 => Value::String(self.text()),
            4 => (0..self.below(5)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let entries = (0..self.below(5)).map(|_| (self.text(), self.value(depth - 1)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}

/// What was seen to go wrong, and its relatives.
fn known() -> Vec<Value> {
    let mut deep = json!(1);
    for level in 0..62 {
        deep = if level % 2 == 0 { json!([deep]) } else { json!({ "a": deep }) };
    }
    vec![
        json!({ "temperature": 0.000_001 }),
        json!([3e-6, 1e16, -1e-300, 5e-324, 1.797_693_134_862_315_7e308, -0.0, 0.1, 100.0]),
        json!([u64::MAX, i64::MIN, 0, -1]),
        json!({ "system": "one\u{92}two\u{7f}three\u{0}" }),
        json!(["\u{85}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}", "\u{1f600}\u{10ffff}", "  a \n\n b\t "]),
        json!({ "k".repeat(1020): 1, "k".repeat(1030): {"\u{1f600}".repeat(200): [1]}, "k".repeat(5000): null }),
        json!({ "": "", "<<": {"a": 1}, "=": "=", "true": "true", "12": "012" }),
        deep,
    ]
}

#[test]
fn the_runtimes_reader_reads_each_document_as_it_was_meant() {
    let mut random = Random(0x5eed_0f0d_0c00_0001);
    let mut values = known();
    values.extend((0..2000).map(|_| random.value(4)));
    let (wrong, said) = misread(&values, yaml);
    assert_eq!(wrong, 0, "{said}");
}

#[test]
fn twin_json_is_not_the_same_to_the_runtimes_reader() {
    let values = known();
    let (wrong, said) = misread(&values, Value::to_string);
    // Small and large numbers, what isn't printable, surrogates or characters of other planes, long keys.
    assert!(wrong >= 4, "{wrong}: {said}");
    assert!(said.contains("1e-06") || said.contains("1e-6"), "{said}");
}
