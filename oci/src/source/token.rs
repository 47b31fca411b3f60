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
    /// Reads one `WWW-Authenticate` (RFC 9110, 11.6.1), which may hold several challenges. What isn't known, or is broken,
    /// is passed over.
    pub(super) fn all(text: &str) -> Vec<Self> {
        if text.len() > MAX_CHALLENGE {
            return Vec::new();
        }
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        for element in elements(text) {
            let (scheme, parameter) = split(element.trim());
            if let Some(scheme) = scheme {
                drafts.push(Draft { scheme, realm: None, service: None, is_broken: false });
            }
            if let Some(draft) = drafts.last_mut()
                && !parameter.is_empty()
            {
                draft.take(parameter);
            }
        }
        drafts.into_iter().filter_map(Draft::finish).collect()
    }
}

/// A challenge while it is read.
struct Draft<'a> {
    scheme: &'a str,
    realm: Option<&'a str>,
    service: Option<&'a str>,
    is_broken: bool,
}

impl<'a> Draft<'a> {
    /// Takes `key=value` or `key="value"`.
    fn take(&mut self, parameter: &'a str) {
        let Some((key, value)) = parameter.split_once('=') else {
            self.is_broken = true;
            return;
        };
        let value = value.trim();
        // No registry escapes in these values, and what would have to be isn't wanted in them.
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"').filter(|value| !value.contains(['"', '\\'])),
            None => Some(value).filter(|value| !value.contains(|c: char| c == '"' || c.is_whitespace())),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            _ if value.is_none() => self.is_broken = true,
            "realm" => self.realm = value,
            "service" => self.service = value,
            _ => {}
        }
    }

    fn finish(self) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if self.is_broken || !self.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (realm, service) = (self.realm?.to_owned(), self.service.map(str::to_owned));
        Some(Challenge::Bearer { realm, service })
    }
}

/// What stands between the commas of a field. One inside of quotes separates nothing.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let separates = character == ',' && !is_quoted;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        separates
    })
}

/// The scheme with which an element begins, if it begins a challenge, and the parameter in it.
fn split(element: &str) -> (Option<&str>, &str) {
    let end = element.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(element.len());
    let (word, rest) = (&element[..end], element[end..].trim_start());
    if word.is_empty() || rest.starts_with('=') { (None, element) } else { (Some(word), rest) }
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
    // Some registries fill in the one that they don't use with nothing.
    let mut given = [answer.token, answer.access_token].into_iter().flatten();
    let token = given.find(|token| !token.is_empty())?;
    let plain = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let text = "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"repository:a:pull,push\"";
        assert_eq!(Challenge::all(text), [bearer("https://auth.example/token", Some("r.example"))]);
        assert_eq!(Challenge::all("bearer realm=https://a.example"), [bearer("https://a.example", None)]);
        assert_eq!(Challenge::all("Basic realm=\"test\""), [Challenge::Basic]);
        assert_eq!(Challenge::all("Basic"), [Challenge::Basic]);
        assert_eq!(
            Challenge::all("Bearer realm = \"https://a\" , service = s"),
            [bearer("https://a", Some("s"))]
        );
        let long = format!("Bearer realm=\"{}\"", "a".repeat(MAX_CHALLENGE));
        for wrong in
            ["", ",", "Digest realm=\"x\"", "Bearer", "Bearer realm=\"x", "Bearer realm=\"a\" b", &long]
        {
            assert_eq!(Challenge::all(wrong), [], "{wrong}");
        }
    }

    #[test]
    fn every_challenge_of_a_field_is_read_whatever_stands_beside_it() {
        let both = [Challenge::Basic, bearer("https://a/t", Some("r"))];
        for text in [
            "Basic realm=\"r\", Bearer realm=\"https://a/t\",service=\"r\"",
            "Basic realm=\"a, Bearer realm=b\", charset=\"UTF-8\",Bearer realm=\"https://a/t\", service=r",
            "Negotiate, Basic, Bearer realm=\"https://a/t\", service=\"r\", error=\"invalid_token\"",
            "Negotiate oRQwEqADCgEAoQsGCSqGSIL3EgECAg==, Basic realm=\"x\", , Bearer service=\"r\", realm=\"https://a/t\"",
            "Digest realm=\"d\", nonce=\"a,b\", qop=\"auth\", Basic, Bearer realm=\"https://a/t\", service=\"r\"",
        ] {
            assert_eq!(Challenge::all(text), both, "{text}");
        }
        // One that is broken takes no other with it.
        assert_eq!(Challenge::all("Bearer realm=\"a\" b, Basic realm=\"x\""), [Challenge::Basic]);
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
        assert_eq!(read(b"{\"token\":\"\",\"access_token\":\"abc\"}").as_deref(), Some("abc"));
        assert_eq!(read(b"{\"token\":null,\"access_token\":\"abc\"}").as_deref(), Some("abc"));
        assert_eq!(read(b"{\"token\":\"abc\",\"access_token\":\"\"}").as_deref(), Some("abc"));
        let long = format!("{{\"token\":\"{}\"}}", "a".repeat(MAX_TOKEN + 1));
        for wrong in ["", "{}", "{\"token\":\"\"}", "{\"token\":\"a\\r\\nX: y\"}", "{\"token\":1}", &long] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
