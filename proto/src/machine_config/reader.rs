//! Reading a section out of the tree: a cursor that knows its path, and errors that come with it.
//!
//! A section says `at.mapping(&["id", "hostname"])` and with that refuses every other key; it reads each value
//! by the type it needs. Values are repeated in an error only by [`At::parse`], never by [`At::parse_hidden`].

use super::error::{ConfigError, ErrorKind, join, quoted};
use super::tree::{Entry, Node, Value};

/// A value of the document and its path.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    node: &'a Node,
    path: String,
}

/// A mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
    at: At<'a>,
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        At { node, path: String::new() }
    }

    /// An error about this value.
    pub(super) fn error(&self, kind: ErrorKind, expected: &str, found: &str) -> ConfigError {
        ConfigError {
            kind,
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint: String::new(),
            line: Some(self.node.line),
            column: Some(self.node.column),
        }
    }

    /// An error about a value that has the right type; `found` must hold no secret.
    pub(super) fn wrong_value(&self, expected: &str, found: &str) -> ConfigError {
        self.error(ErrorKind::WrongValue, expected, found)
    }

    /// An error about a value of the wrong type, or the error that this value is.
    pub(super) fn wrong_type(&self, expected: &str) -> ConfigError {
        let found = match &self.node.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Bad(error) => return (**error).clone(),
        };
        let error = self.error(ErrorKind::WrongType, expected, found);
        match &self.node.value {
            Value::Null => error.hint("give it a value, or remove the key"),
            Value::Bool(_) | Value::Number(_) => error.hint("put text in quotes"),
            _ => error,
        }
    }

    pub(super) fn text(&self, expected: &str) -> Result<&'a str, ConfigError> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong_type(expected)),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match &self.node.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false").hint("")),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, min: u64, max: u64) -> Result<u64, ConfigError> {
        let expected = format!("a whole number from {min} to {max}");
        match &self.node.value {
            Value::Number(number) => number
                .as_u64()
                .filter(|value| (min..=max).contains(value))
                .ok_or_else(|| self.wrong_value(&expected, &number.to_string())),
            // A number in quotes is text; the usual hint, to put text in quotes, would be wrong for the others.
            _ => Err(self.wrong_type(&expected).hint("write it without quotes")),
        }
    }

    /// Text that `parse` makes something of; an error repeats the value.
    pub(super) fn parse<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = self.text(expected)?;
        parse(text).ok_or_else(|| self.wrong_value(expected, &quoted(text)))
    }

    /// Text that may be a secret, or stand where somebody may put one: an error tells its length only.
    pub(super) fn parse_hidden<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = self.text(expected)?;
        parse(text).ok_or_else(|| self.wrong_value(expected, &hidden(text)))
    }

    /// A list of `min` to `max` values.
    pub(super) fn list(&self, expected: &str, min: usize, max: usize) -> Result<Vec<At<'a>>, ConfigError> {
        let Value::List(items) = &self.node.value else {
            return Err(self.wrong_type(expected));
        };
        if items.len() < min || items.len() > max {
            return Err(self.wrong_value(expected, &format!("{} values", items.len())));
        }
        let at = |(index, node)| At { node, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }

    /// A mapping whose keys are free.
    pub(super) fn entries(&self, expected: &str) -> Result<Vec<(&'a str, At<'a>)>, ConfigError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong_type(expected));
        };
        Ok(entries
            .iter()
            .map(|Entry { key, value, .. }| (key.as_str(), At { node: value, path: join(&self.path, key) }))
            .collect())
    }

    /// A mapping that has no key but `known`.
    pub(super) fn mapping(&self, known: &[&str]) -> Result<Fields<'a>, ConfigError> {
        let fields = self.open_mapping(&format!("a mapping of {}", known.join(", ")))?;
        for Entry { key, at, value: node } in fields.entries {
            let unknown = At { node, path: join(&self.path, key) };
            if matches!(node.value, Value::Bad(_)) {
                return Err(unknown.wrong_type(""));
            }
            if !known.contains(&key.as_str()) {
                let meant = known.iter().find(|name| alike(name, key));
                let mut error = unknown.error(ErrorKind::UnknownKey, &known.join(", "), "another key");
                // About the key, whose value may begin lines below it.
                (error.line, error.column) = (Some(at.0), Some(at.1));
                return Err(match meant {
                    Some(name) => error.hint(format!("did you mean `{name}`?")),
                    None => error.hint("remove it, or check how far it is indented"),
                });
            }
        }
        Ok(fields)
    }

    /// A mapping with known keys among others.
    pub(super) fn open_mapping(&self, expected: &str) -> Result<Fields<'a>, ConfigError> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong_type(expected));
        };
        Ok(Fields { entries, at: self.clone() })
    }

    /// The value as JSON, for documents that are somebody else's.
    pub(super) fn json(&self) -> Result<serde_json::Value, ConfigError> {
        json(self.node).map_err(Clone::clone)
    }
}

impl<'a> Fields<'a> {
    /// The value of `key`; of a key that is there twice the second, which is an error to read.
    pub(super) fn optional(&self, key: &str) -> Option<At<'a>> {
        let entry = self.entries.iter().rev().find(|entry| entry.key == key)?;
        Some(At { node: &entry.value, path: join(&self.at.path, key) })
    }

    pub(super) fn required(&self, key: &str, expected: &str) -> Result<At<'a>, ConfigError> {
        self.optional(key).ok_or_else(|| self.missing(key, expected))
    }

    /// The error of a key that is not there.
    pub(super) fn missing(&self, key: &str, expected: &str) -> ConfigError {
        let missing = At { node: self.at.node, path: join(&self.at.path, key) };
        missing.error(ErrorKind::MissingKey, expected, "nothing").hint(format!("add `{key}:`"))
    }
}

/// What is said of text that may be secret.
pub(super) fn hidden(text: &str) -> String {
    format!("text of {} characters that does not fit (not repeated here)", text.chars().count())
}

/// Whether two keys differ only in case and in `_` or `-`.
fn alike(known: &str, key: &str) -> bool {
    let letters = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    letters(known) == letters(key)
}

fn json(node: &Node) -> Result<serde_json::Value, &ConfigError> {
    Ok(match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(value) => value.clone().into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => serde_json::Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Value::Map(entries) => serde_json::Value::Object(
            entries
                .iter()
                .map(|Entry { key, value, .. }| Ok((key.clone(), json(value)?)))
                .collect::<Result<_, &ConfigError>>()?,
        ),
        Value::Bad(error) => return Err(error),
    })
}
