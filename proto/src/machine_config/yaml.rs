//! An agent's document as text that the runtime's reader, `PyYAML`, reads back as the same value.
//!
//! JSON is YAML, but not the same YAML to each reader. `PyYAML` follows YAML 1.1, whose numbers need a dot before and a sign
//! after their `e` (`1e-6` is text there), which has no surrogate pairs, refuses most control characters wherever they
//! stand, and looks for the colon of a key no further than 1024 characters away. So what is written here is ASCII, every
//! other character is an escape of YAML's own, and a long key is marked as one.
//!
//! Sources: YAML 1.1, sections 5.7 (escapes) and 10.2 (flow styles); yaml.org/type/float.html; `PyYAML`'s `scanner.py`,
//! `reader.py` and `resolver.py`. A test asks `PyYAML` itself: rootfs/tests/documents.rs.

use super::types::Agent;
use serde_json::{Number, Value};
use std::fmt::Write as _;

/// Longest key, with its quotes and escapes, that stands without a mark: `PyYAML`'s limit is 1024.
const LONGEST_KEY: usize = 1000;

impl Agent {
    /// The document for the runtime. It ends with a newline.
    pub fn yaml(&self) -> String {
        yaml(&self.document)
    }
}

/// `value` as a document of YAML 1.1 in ASCII. It recurses as deep as the value is, which is at most 64 levels in a
/// machine-config.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out.push('\n');
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_key(out, key);
                out.push_str(": ");
                write(out, value);
            }
            out.push('}');
        }
    }
}

fn write_key(out: &mut String, key: &str) {
    let mut text = String::new();
    write_text(&mut text, key);
    if text.len() > LONGEST_KEY {
        out.push_str("? ");
    }
    out.push_str(&text);
}

/// Whole numbers as they are. Others with a dot, and with a sign in the exponent.
fn write_number(out: &mut String, number: &Number) {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        out.push_str(&number.to_string());
        return;
    };
    // The shortest digits that read back as the same number: `0.5`, `1e-6`, `1.5e300`.
    let digits = format!("{float:?}");
    let (mantissa, exponent) = digits.split_once('e').map_or((&*digits, None), |(m, e)| (m, Some(e)));
    out.push_str(mantissa);
    if !mantissa.contains('.') {
        out.push_str(".0");
    }
    if let Some(exponent) = exponent {
        out.push_str(if exponent.starts_with('-') { "e" } else { "e+" });
        out.push_str(exponent);
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(character),
            // Writing to a String can't fail.
            _ => {
                let _ = match u32::from(character) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_reader_of_yaml_1_1_takes_for_something_else_is_written_in_its_own_way() {
        for (value, text) in [
            (json!(1e-6), "1.0e-6"),
            (json!(3e300), "3.0e+300"),
            (json!(0.25), "0.25"),
            (json!(2.0), "2.0"),
            (json!(-7), "-7"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!("\u{7f}\u{92}\0\t\r\n"), r#""\x7f\x92\x00\x09\x0d\n""#),
            (json!("a\u{2028}\u{feff}\u{1f600}\"\\"), r#""a\u2028\ufeff\U0001f600\"\\""#),
            (json!({"yes": [null, true, "no"], "": {}}), r#"{"": {}, "yes": [null, true, "no"]}"#),
        ] {
            assert_eq!(yaml(&value), format!("{text}\n"));
        }
    }

    #[test]
    fn a_key_too_long_to_be_seen_as_one_is_marked() {
        assert!(!yaml(&json!({"k".repeat(900): 1})).contains('?'));
        assert!(yaml(&json!({"k".repeat(1200): 1})).starts_with("{? \"kkk"));
        // Short, but each character is ten with its escape.
        assert!(yaml(&json!({"\u{1f600}".repeat(120): 1})).starts_with("{? \"\\U"));
    }

    #[test]
    fn a_document_is_ascii_whatever_is_in_it() {
        let every: String = (0..=u32::from(char::MAX)).step_by(7).filter_map(char::from_u32).collect();
        let text = yaml(&json!({ &every: [&every] }));
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
        assert_eq!(text.matches('\n').count(), 1);
    }
}
