//! The `agents` section: documents of the runtime, checked only as far as the node depends on them.
//!
//! What an agent may say is the runtime's affair and changes with it. The node needs a name it can use for
//! a file, and the promise that every key an agent asks for is one that `providers` supplies: an agent whose key
//! is missing loads without complaint and fails at its first question.

use super::error::{ConfigError, ErrorKind};
use super::names::is_slug;
use super::reader::At;
use super::types::{Agent, Provider};
use std::collections::BTreeSet;

/// The runtime loads each at start, and the node checks each for health.
const MAX_AGENTS: usize = 64;

pub(super) fn agents(at: &At<'_>, providers: &[Provider]) -> Result<Vec<Agent>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut agents = Vec::new();
    for item in at.list("a list of at most 64 agents", 0, MAX_AGENTS)? {
        let agent = agent(&item, providers)?;
        if !names.insert(agent.name.clone()) {
            let expected = "a name that no other agent has";
            return Err(item.wrong_value(expected, &super::error::quoted(&agent.name)));
        }
        agents.push(agent);
    }
    Ok(agents)
}

fn agent(at: &At<'_>, providers: &[Provider]) -> Result<Agent, ConfigError> {
    let fields = at.open_mapping("an Agent document")?;
    for (key, value) in [("apiVersion", "astromesh/v1"), ("kind", "Agent")] {
        fields.required(key, value)?.parse(value, |text| (text == value).then_some(()))?;
    }
    let metadata = fields.required("metadata", "a mapping with `name`")?;
    let expected = "a name of 1 to 63 lower-case letters, digits and hyphens";
    let name = metadata
        .open_mapping("a mapping with `name`")?
        .required("name", expected)?
        .parse(expected, |text| is_slug(text).then(|| text.to_owned()))?;
    let document = at.json()?;
    let spec = fields.required("spec", "a mapping with `model`")?;
    if let Some(model) = spec.open_mapping("a mapping with `model`")?.optional("model") {
        model.entries("a mapping of roles to models")?;
        keys_are_supplied(&model, providers)?;
    }
    Ok(Agent { name, document })
}

/// Checks each `api_key_env` below `at`: roles stand at several depths (`primary`, `fallback`, `roles.NAME`).
fn keys_are_supplied(at: &At<'_>, providers: &[Provider]) -> Result<(), ConfigError> {
    if let Ok(entries) = at.entries("") {
        for (key, value) in entries {
            if key == "api_key_env" {
                key_is_supplied(&value, providers)?;
            } else {
                keys_are_supplied(&value, providers)?;
            }
        }
    } else if let Ok(items) = at.list("", 0, usize::MAX) {
        for item in items {
            keys_are_supplied(&item, providers)?;
        }
    }
    Ok(())
}

fn key_is_supplied(at: &At<'_>, providers: &[Provider]) -> Result<(), ConfigError> {
    let expected = "the `apiKeyEnv` of one of `providers`";
    let text = at.text(expected)?;
    if providers.iter().any(|provider| provider.api_key_env == text) {
        return Ok(());
    }
    let known: Vec<&str> = providers.iter().map(|provider| provider.api_key_env.as_str()).collect();
    let error = at.error(ErrorKind::WrongValue, expected, &super::reader::hidden(text));
    Err(match known.as_slice() {
        [] => error.hint("no provider is declared: add one under `providers:`"),
        _ => error.hint(format!("declared: {}", known.join(", "))),
    })
}
