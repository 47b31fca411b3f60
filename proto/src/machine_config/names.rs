//! Names of nodes, hosts, links and agents: what their alphabets are.

/// A host name of RFC 1123: labels of letters, digits and hyphens, at most `max` bytes. The last label may not be
/// a number, or it would be read as (a piece of) an IPv4 address.
pub(crate) fn is_hostname(text: &str, max: usize) -> bool {
    text.len() <= max
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|l| !is_numeric(l))
}

/// A node's identity: one lower-case label that can be the DNS name in a certificate.
pub(super) fn is_node_id(text: &str) -> bool {
    is_label(text) && !is_numeric(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `[a-z0-9][a-z0-9-]{0,62}`: names of agents and providers.
pub(super) fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A name that a kernel link can have (`dev_valid_name` in net/core/dev.c), less what nobody names one, and not `lo`.
pub(super) fn is_link_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | ".." | "lo")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A label that address parsers take for a number: decimal or `0x` and hexadecimal.
fn is_numeric(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
