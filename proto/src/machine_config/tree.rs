//! From the bytes of a document to a tree of values, each with its line.
//!
//! The scanner is `granit-parser`, the one below `serde-saphyr`; the tree is ours, because it makes three things
//! possible that a serde data model loses: an error of *meaning* still knows its line, the `operator` section
//! can be read out of a document whose other sections are wrong, and what the parser must never do (follow
//! an alias, apply a tag, merge a mapping) is absent instead of switched off. Its scanner costs 120 KB on the node
//! where serde-saphyr costs 518.
//!
//! What is YAML but means different things to different readers is refused, so that the node, the agent runtime
//! (YAML 1.1) and the reader of the file agree: duplicate keys, anchors, aliases, tags, several documents,
//! unquoted `yes`/`no`/`on`/`off`, dates, octal and base-60 numbers. Such a value becomes [`Value::Bad`], which
//! is an error for whoever reads it and for nobody else.
//!
//! Never here: a value in an error. This code doesn't know which values are secrets.

use super::error::{ConfigError, ErrorKind, join};
use granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::BTreeSet;

/// Deepest nesting of lists and mappings: agents' documents are the deepest, at about ten.
const MAX_DEPTH: usize = 64;

/// Most values in a document. A full node (64 agents, 256 hosts) has a few thousand; the bound keeps what
/// a hostile megabyte can make the node allocate at a few megabytes.
const MAX_VALUES: usize = 65_536;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A key of a mapping, where it stands, and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: (u32, u32),
    pub(super) value: Node,
}

/// A value of the YAML 1.2 core schema, as far as it can be written in JSON.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What may not be used; whoever reads it gets this error.
    Bad(Box<ConfigError>),
}

/// Reads `text` as exactly one document.
pub(super) fn load(text: &str) -> Result<Node, ConfigError> {
    let options = granit_parser::options! {
        disallow_directives: true,
        strict_indentation: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.event(event, &span)?,
            Err(error) => {
                let (line, column) = position(error.marker().line(), error.marker().col());
                return Err(builder.error(ErrorKind::Syntax, "YAML", &error.info(), (line, column)));
            }
        }
    }
    let empty = builder.error(ErrorKind::Syntax, "a machine-config", "an empty document", (1, 1));
    builder.root.ok_or(empty)
}

/// The lists and mappings that are open, outermost first.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    values: usize,
}

struct Open {
    at: (u32, u32),
    /// A tag or an anchor stands on it.
    decorated: bool,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: BTreeSet<String>, key: Option<Key> },
}

/// A key whose value comes next.
struct Key {
    name: String,
    at: (u32, u32),
    flaw: Option<ConfigError>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), ConfigError> {
        let at = position(span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(self.error(ErrorKind::Syntax, "one document", "a second one", at))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = if anchor != 0 || tag.is_some() {
                    self.decoration(at)
                } else if style == ScalarStyle::Plain {
                    plain(&text).unwrap_or_else(|| self.ambiguous(at))
                } else {
                    Value::Text(text.as_ref().to_owned())
                };
                self.scalar(&text, value, at)
            }
            Event::Alias(_) => {
                let value = self.decoration(at);
                self.add(value, at)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(at, anchor != 0 || tag.is_some(), Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), seen: BTreeSet::new(), key: None };
                self.open(at, anchor != 0 || tag.is_some(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.content {
                    _ if open.decorated => self.decoration(open.at),
                    Content::List(items) => Value::List(items),
                    Content::Map { entries, .. } => Value::Map(entries),
                };
                self.add(value, open.at)
            }
            _ => Ok(()),
        }
    }

    /// A scalar: the next key of a mapping that waits for one, or else a value.
    fn scalar(&mut self, text: &str, value: Value, at: (u32, u32)) -> Result<(), ConfigError> {
        let Some(Open { content: Content::Map { seen, key: None, .. }, .. }) = self.open.last_mut() else {
            return self.add(value, at);
        };
        let is_text = matches!(value, Value::Text(_));
        let first = seen.insert(text.to_owned());
        let flaw = if !is_text {
            Some((ErrorKind::Syntax, "a key that is text", "another kind of key", "put the key in quotes"))
        } else if text == "<<" {
            Some((ErrorKind::Syntax, "a key", "a merge key", "write the keys out"))
        } else if !first {
            Some((ErrorKind::DuplicateKey, "each key once", "the same key again", "remove one of the two"))
        } else {
            None
        };
        let flaw = flaw.map(|(kind, expected, found, hint)| {
            error(kind, &join(&self.path(), text), expected, found, at).hint(hint)
        });
        if let Some(Open { content: Content::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(Key { name: text.to_owned(), at, flaw });
        }
        Ok(())
    }

    fn open(&mut self, at: (u32, u32), decorated: bool, content: Content) -> Result<(), ConfigError> {
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(self.error(ErrorKind::Syntax, "a key that is text", "a list or a mapping", at));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(ErrorKind::TooLarge, "at most 64 levels", "deeper nesting", at));
        }
        self.open.push(Open { at, decorated, content });
        Ok(())
    }

    fn add(&mut self, value: Value, at: (u32, u32)) -> Result<(), ConfigError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error(ErrorKind::TooLarge, "at most 65536 values", "more", at));
        }
        let mut node = Node { value, line: at.0, column: at.1 };
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, .. }) => {
                let Some(key) = key.take() else {
                    return Err(self.error(ErrorKind::Syntax, "a key that is text", "an alias", at));
                };
                if let Some(flaw) = key.flaw {
                    node.value = Value::Bad(Box::new(flaw));
                }
                entries.push(Entry { key: key.name, at: key.at, value: node });
            }
        }
        Ok(())
    }

    fn decoration(&self, at: (u32, u32)) -> Value {
        let found = "an anchor, an alias or a tag";
        let error = self.error(ErrorKind::Syntax, "a plain value", found, at);
        Value::Bad(Box::new(error.hint("write the value out; quote text that begins with &, * or !")))
    }

    fn ambiguous(&self, at: (u32, u32)) -> Value {
        let found = "a word that other YAML readers take for a boolean, a date or another number";
        let error = self.error(ErrorKind::Syntax, "an unambiguous value", found, at);
        Value::Bad(Box::new(error.hint("quote text; write true or false, and numbers in decimal")))
    }

    fn error(&self, kind: ErrorKind, expected: &str, found: &str, at: (u32, u32)) -> ConfigError {
        error(kind, &self.path(), expected, found, at)
    }

    /// Path of the value that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => path = format!("{path}[{}]", items.len()),
                Content::Map { key: Some(key), .. } => path = join(&path, &key.name),
                Content::Map { key: None, .. } => {}
            }
        }
        path
    }
}

fn error(kind: ErrorKind, path: &str, expected: &str, found: &str, at: (u32, u32)) -> ConfigError {
    ConfigError {
        kind,
        path: path.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        hint: String::new(),
        line: Some(at.0),
        column: Some(at.1),
    }
}

/// Line from 1 and column from 1, of the parser's line from 1 and column from 0.
fn position(line: usize, column: usize) -> (u32, u32) {
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column + 1).unwrap_or(u32::MAX))
}

/// What an unquoted scalar means; `None` when YAML 1.1 and 1.2 disagree on it.
///
/// Source: YAML 1.2.2, section 10.3.2 (core schema), against the resolvers of `PyYAML`, which is the runtime's reader.
fn plain(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" | "=" => {
            return None;
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = unsigned.as_bytes().first()?;
    if !first.is_ascii_digit() && *first != b'.' {
        return Some(Value::Text(text.to_owned()));
    }
    if matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        if unsigned.len() > 1 && *first == b'0' {
            return None;
        }
        let positive = text.strip_prefix('+').unwrap_or(text);
        let number =
            positive.parse::<i64>().map(Into::into).or_else(|_| positive.parse::<u64>().map(Into::into));
        return number.ok().map(Value::Number);
    }
    if is_float(unsigned) {
        let number =
            text.strip_prefix('+').unwrap_or(text).parse().ok().and_then(serde_json::Number::from_f64);
        return number.map(Value::Number);
    }
    if is_other_number(unsigned) { None } else { Some(Value::Text(text.to_owned())) }
}

/// `[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?` with at least one digit before the exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let dots = mantissa.matches('.').count();
    dots <= 1
        && digits(&mantissa.replace('.', ""))
        && exponent.is_none_or(|part| digits(part.strip_prefix(['-', '+']).unwrap_or(part)))
}

/// What YAML 1.1 reads as a number or a date, and 1.2 as text or as another number: hexadecimal, octal, binary,
/// `1_000`, base 60 (`52:54:00`), `2024-01-01`.
fn is_other_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes.iter().all(|byte| byte.is_ascii_digit() || b"-:.+tTzZ ".contains(byte));
    let radix = ["0x", "0o", "0b"].iter().any(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_'))
    });
    let underscored = bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'_' || *byte == b'.')
        && bytes.contains(&b'_');
    let mut parts = text.split(':');
    let whole =
        parts.next().is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_'));
    let mut sixtieths = parts.map(|part| part.split('.').next().unwrap_or(part)).peekable();
    let base60 = whole
        && sixtieths.peek().is_some()
        && sixtieths.all(|part| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']));
    date || radix || underscored || base60
}
