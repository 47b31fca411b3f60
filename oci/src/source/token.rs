//! How a registry asks who asks: `WWW-Authenticate`, and the token that is had from elsewhere.
//!
//! The distribution project's token specification: the registry names a realm, the client asks it for a token for one
//! repository and one right, with name and password where it has them. Here the repository and the right are the
//! client's own words, never those of the challenge: a registry can't have a token made for more than pulling this.

use serde::Deserialize;

/// The longest challenge looked at.
const MAX_CHALLENGE: usize = 4096;
/// The most bytes of an answer with a token.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// The longest token taken. Those of cloud registries have some KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// What a registry wants to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads one `WWW-Authenticate` (RFC 9110, 11.6.1); `None` for what isn't known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CHALLENGE {
            return None;
        }
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest.trim_start();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=')?;
            // No registry escapes in these values, and what would have to be isn't wanted in them.
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            if value.contains('\\') {
                return None;
            }
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.trim().to_owned()),
                "service" => service = Some(value.trim().to_owned()),
                _ => {}
            }
            let after = after.trim_start();
            rest = if after.is_empty() { "" } else { after.strip_prefix(',')?.trim_start() };
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// The address at which a token to pull from `repository` is asked for.
pub(super) fn address(realm: &str, service: Option<&str>, repository: &str) -> String {
    let joint = if realm.contains('?') { '&' } else { '?' };
    let mut out = format!("{realm}{joint}");
    if let Some(service) = service {
        out = out + "service=" + &encode(service) + "&";
    }
    out + "scope=" + &encode(&format!("repository:{repository}:pull"))
}

/// RFC 3986: everything but the unreserved characters as `%XX`.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
            );
        }
    }
    out
}

/// The token in an answer; `None` where there is none that could be put into a header.
pub(super) fn read(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token)?;
    let plain = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        let text = "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"repository:a:pull,push\"";
        assert_eq!(Challenge::parse(text), bearer("https://auth.example/token", Some("r.example")));
        assert_eq!(Challenge::parse("bearer realm=https://a.example"), bearer("https://a.example", None));
        assert_eq!(Challenge::parse("Basic realm=\"test\""), Some(Challenge::Basic));
        let long = format!("Bearer realm=\"{}\"", "a".repeat(MAX_CHALLENGE));
        for wrong in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=\"x", "Bearer realm=\"a\" b", &long] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_scope_is_this_repository_and_to_pull() {
        assert_eq!(
            address("https://a.example/t", Some("r & s"), "team/os"),
            "https://a.example/t?service=r%20%26%20s&scope=repository%3Ateam%2Fos%3Apull"
        );
        assert_eq!(address("https://a/t?x=1", None, "os"), "https://a/t?x=1&scope=repository%3Aos%3Apull");
    }

    #[test]
    fn only_a_token_that_fits_a_header_is_taken() {
        assert_eq!(read(b"{\"token\":\"abc\"}").as_deref(), Some("abc"));
        assert_eq!(read(b"{\"access_token\":\"abc\",\"expires_in\":60}").as_deref(), Some("abc"));
        let long = format!("{{\"token\":\"{}\"}}", "a".repeat(MAX_TOKEN + 1));
        for wrong in ["", "{}", "{\"token\":\"\"}", "{\"token\":\"a\\r\\nX: y\"}", "{\"token\":1}", &long] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
