//! The terminal, and what must not reach it.
//!
//! A log line holds whatever an agent, a model or a kernel driver made of its input. Terminals obey what they are sent:
//! escape sequences retitle windows, move the cursor over lines that were true, and on some emulators answer as if
//! typed. So no control character of a node is ever printed.

use std::fmt::Write;
use std::io::IsTerminal;

/// `text` without escape sequences, control characters and the characters that reorder text: what is left is what
/// is seen. A tab becomes a space, a line end too: one string is one line.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.peek() {
                Some('[') => {
                    characters.next();
                    skip_control_sequence(&mut characters);
                }
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    characters.next();
                    skip_string(&mut characters);
                }
                Some(' '..='~') => {
                    characters.next();
                }
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut characters),
            '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => out.push(' '),
            _ if character.is_control() || is_reordering(character) => {}
            _ => out.push(character),
        }
    }
    out
}

/// ECMA-48, 5.4: parameters, then one final byte.
fn skip_control_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(' '..='?') = characters.peek() {
        characters.next();
    }
    if let Some('@'..='~') = characters.peek() {
        characters.next();
    }
}

/// ECMA-48, 5.6: up to ST; xterm also takes BEL.
fn skip_string(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(character) = characters.next() {
        match character {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' if characters.peek() == Some(&'\\') => {
                characters.next();
                return;
            }
            _ => {}
        }
    }
}

/// Unicode's explicit directional formatting and marks (UAX 9), and the byte-order mark.
fn is_reordering(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

/// JSON that is safe on a terminal: what `serde_json` leaves as it is and [`clean`] would drop is escaped. Such
/// characters stand only inside strings, where an escape means the same.
pub fn clean_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if (character.is_control() && character != '\n') || is_reordering(character) {
            // Writing to a String can't fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Whether standard output should be coloured: it is a terminal, and `NO_COLOR` is unset or empty.
pub fn wants_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let cases = [
            ("plain é 漢", "plain é 漢"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://x\u{1b}\\b", "ab"),
            ("a\u{1b}P$q\u{1b}\\b\u{1b}cc", "abc"),
            ("a\u{9b}2Jb\u{9d}0;x\u{9c}c", "abc"),
            ("one\r\ntwo\tthree", "one  two three"),
            ("a\u{8}\u{0}\u{7f}b", "ab"),
            ("a\u{202e}b\u{2066}c\u{200b}\u{feff}", "abc"),
            ("end\u{1b}", "end"),
            ("open \u{1b}]0;never closed", "open "),
            ("\u{1b}\u{1b}[31mx", "x"),
        ];
        for (hostile, expected) in cases {
            assert_eq!(clean(hostile), expected, "{hostile:?}");
        }
    }

    #[test]
    fn every_character_comes_out_printable_or_not_at_all() {
        for character in (0..0x3000).filter_map(char::from_u32) {
            for left in clean(&format!("\u{1b}{character}x{character}")).chars() {
                assert!(!left.is_control() && !is_reordering(left), "{character:?} left {left:?}");
            }
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "text": "a\u{9b}31m\u{7f}\u{202e}\n\u{1b}" });
        let cleaned = clean_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!cleaned.chars().any(|c| (c.is_control() && c != '\n') || is_reordering(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).unwrap(), value);
    }
}
