//! The release's kernel command line, whole: what each kernel of ours is told, wherever it is started.
//!
//! It goes into the unified kernel image ([`crate::uki`]), and quick tests give the same line to QEMU with the kernel.
//! The words are few on purpose: what can be decided when the kernel is configured is decided there, where no one who
//! can edit a line can change it. Nothing here is for an emulator or a cloud alone.
//!
//! Source: Documentation/admin-guide/kernel-parameters.txt of the kernel.

use astromesh_verity::{RootHash, command_line::root_hash_word};

/// The words that do not differ between releases, each with its reason.
pub const WORDS: &[(&str, &str)] = &[
    (
        "console=ttyS0",
        "the serial port is the console: each hypervisor has one, and shows it to the operator",
    ),
    ("panic=-1", "a panic reboots at once, so that the boot loader counts the try; 0 would wait for ever"),
    (
        "gpt",
        "the kernel takes the backup partition table where the primary one is torn; without the word it finds no partition",
    ),
    (
        "quiet",
        "silences what starts and unpacks the kernel too; a serial line is slow, and a boot waits for it",
    ),
    ("loglevel=6", "after `quiet`, whose level it replaces: the console shows notices, warnings and errors"),
];

/// The words of [`WORDS`] on one line.
pub fn fixed() -> String {
    let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
    words.join(" ")
}

/// The whole line of the release whose root has this hash.
pub fn command_line(root_hash: &RootHash) -> String {
    format!("{} {}", fixed(), root_hash_word(root_hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromesh_verity::command_line::parse;

    #[test]
    fn the_line_is_the_fixed_words_and_the_root_hash() {
        let hash = RootHash::new([0xab; 32]);
        let line = command_line(&hash);
        let digits = "ab".repeat(32);
        assert_eq!(line, format!("console=ttyS0 panic=-1 gpt quiet loglevel=6 roothash={digits}"));
        assert_eq!(parse(&line), Ok(hash));
    }

    #[test]
    fn a_word_is_one_parameter_and_has_a_reason() {
        for (word, reason) in WORDS {
            assert!(!word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"'), "{word}");
            assert!(!reason.is_empty(), "{word}");
        }
    }
}
