//! Why a document is not a machine-config: one error, with the path of the key it is about.
//!
//! The error is read twice: on the node's console in maintenance mode, in one line, and at an operator's desk with
//! the line of the file beside it. It must therefore never carry a secret: what was found is given by its
//! kind (`a number`, `text of 51 characters`), and by its value only where a reader asked for that.

use core::fmt;

/// Longest [`ConfigError::short`], in bytes: what fits a message of PID 1 ([`crate::ipc::MAX_TEXT`]).
pub const MAX_SHORT: usize = crate::ipc::MAX_TEXT;

/// Longest piece of somebody else's text that is repeated in an error, in characters.
const MAX_QUOTED: usize = 48;

/// What is wrong with a machine-config, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Kind of the error, for programs.
    pub kind: ErrorKind,
    /// Path of the key, such as `network.interfaces[0].addresses[1]`; empty when it is about the document.
    pub path: String,
    /// What was expected there.
    pub expected: String,
    /// What was found instead; never a secret.
    pub found: String,
    /// What to do next; empty when `expected` says it all.
    pub hint: String,
    /// Line in the document, counted from 1, where known.
    pub line: Option<u32>,
    /// Column in that line, counted from 1 in characters, where known.
    pub column: Option<u32>,
}

/// Kind of a [`ConfigError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The document is larger than [`super::MAX_DOCUMENT`], or holds too many or too deep values.
    TooLarge,
    /// The document is not UTF-8.
    NotUtf8,
    /// The document is something else than a machine-config, and says so in its first bytes.
    Foreign,
    /// The document is not one YAML document of the kind read here.
    Syntax,
    /// A key that means nothing at its place.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A key that is there twice.
    DuplicateKey,
    /// A value of another type.
    WrongType,
    /// A value of the right type that can't be used.
    WrongValue,
}

impl ConfigError {
    /// The error in one line of at most [`MAX_SHORT`] bytes.
    pub fn short(&self) -> String {
        let mut line = self.to_string();
        if line.len() > MAX_SHORT {
            let mut end = MAX_SHORT - 3;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push_str("...");
        }
        line
    }

    /// The same error with a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match self.kind {
            ErrorKind::UnknownKey => write!(f, "unknown key; known here: {}", self.expected),
            ErrorKind::MissingKey => write!(f, "missing; expected {}", self.expected),
            _ => write!(f, "expected {}, found {}", self.expected, self.found),
        }
    }
}

impl core::error::Error for ConfigError {}

/// `text` in quotes, escaped and cut, so that it can stand in a line on a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for (count, character) in text.chars().enumerate() {
        if count == MAX_QUOTED {
            out.push_str("...");
            break;
        }
        if character.is_ascii() { out.extend(character.escape_default()) } else { out.push('?') }
    }
    out.push('"');
    out
}

/// `key` appended to `path` as the user would write it; quoted where it is not plain.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.len() <= 64
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{}]", quoted(key)),
    }
}
