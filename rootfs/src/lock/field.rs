//! What fields of both lock files may hold: both name versions and sums.

/// Whether `text` is a SHA-256 in lower-case hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` can be a version: it ends up on a command line and in a file name.
pub(super) fn is_version(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+~:-_!".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
}
