//! `roothash=HEX`: the one word of the kernel's command line that names the root.
//!
//! The command line is part of the unified kernel image, and the root hash on it decides which partitions are opened
//! and what each of their blocks must be. Whoever builds an image, installs one or boots from one spells and reads the
//! word here, so that no two of them can differ.
//!
//! **What always holds.** [`parse`] gives a root hash only for a line that names exactly one. systemd-stub(7) appends
//! to the line what firmware tables and files beside the image say, so a second word may come from someone else than
//! the builder. It neither allocates nor panics.
//!
//! **Refuses** to choose between two, even where both are the same, and to look inside quotes: the kernel takes
//! `"a roothash=..."` for one parameter, this counts the word in it and refuses the line.
//!
//! ```
//! use astromesh_verity::{RootHash, command_line};
//! let hash = RootHash::new([0xab; 32]);
//! let line = format!("quiet {}", command_line::root_hash_word(&hash));
//! assert_eq!(command_line::parse(&line), Ok(hash));
//! ```

use crate::RootHash;
use core::fmt;

/// The word's name, with what separates it from its value; systemd's own name for it (systemd-veritysetup-generator(8)).
const NAME: &str = "roothash=";

/// Why a command line names no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// The word is not there.
    #[error(
        "the command line must carry `roothash=` exactly once, found 0; the UKI was put together wrongly, or the \
         machine was started without its command line"
    )]
    FindRootHash,
    /// The word is there so many times.
    #[error(
        "the command line must carry `roothash=` exactly once, found {0}; the UKI was put together wrongly, or \
         firmware added to its command line"
    )]
    ChooseRootHash(usize),
    /// Its value is no root hash.
    #[error("`roothash=` on the command line is not 64 hexadecimal digits; the UKI was put together wrongly")]
    ParseRootHash,
}

/// The word that names `root_hash`: `roothash=` and 64 lower-case digits.
pub fn root_hash_word(root_hash: &RootHash) -> impl fmt::Display {
    struct Word(RootHash);
    impl fmt::Display for Word {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{NAME}{}", self.0)
        }
    }
    Word(*root_hash)
}

/// The one root hash that a whole command line names.
pub fn parse(line: &str) -> Result<RootHash, CommandLineError> {
    let mut found = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(NAME));
    match (found.next(), found.count()) {
        (Some(text), 0) => text.parse().map_err(|_| CommandLineError::ParseRootHash),
        (None, _) => Err(CommandLineError::FindRootHash),
        (Some(_), more) => Err(CommandLineError::ChooseRootHash(more + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CommandLineError::{ChooseRootHash, FindRootHash, ParseRootHash};

    #[test]
    fn the_root_hash_must_stand_on_the_command_line_exactly_once() {
        let hash = RootHash::new([0xab; 32]);
        let word = root_hash_word(&hash).to_string();
        assert_eq!(parse(&format!("quiet {word}\n")), Ok(hash));
        assert_eq!(parse("quiet"), Err(FindRootHash));
        assert_eq!(parse(""), Err(FindRootHash));
        assert_eq!(parse(&format!("{word} quiet {word}")), Err(ChooseRootHash(2)), "the same twice");
        let other = root_hash_word(&RootHash::new([0xcd; 32])).to_string();
        assert_eq!(parse(&format!("{word} {other} {word}")), Err(ChooseRootHash(3)));
    }

    #[test]
    fn what_is_no_root_hash_is_refused_and_not_passed_over() {
        let word = root_hash_word(&RootHash::new([0xab; 32])).to_string();
        for value in ["", "abc", "/dev/vda1"] {
            assert_eq!(parse(&format!("roothash={value}")), Err(ParseRootHash), "{value}");
            assert_eq!(parse(&format!("{word} roothash={value}")), Err(ChooseRootHash(2)), "{value}");
        }
        assert_eq!(parse(&format!("{word}00")), Err(ParseRootHash));
    }

    #[test]
    fn a_word_that_only_ends_in_the_name_is_another_word() {
        let word = root_hash_word(&RootHash::new([0xab; 32])).to_string();
        assert_eq!(parse(&format!("usr{word}")), Err(FindRootHash));
        assert_eq!(parse(&format!("-{word}")), Err(FindRootHash));
        assert_eq!(parse(&word.to_uppercase()), Err(FindRootHash));
    }
}
