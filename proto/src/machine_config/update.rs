//! The `update` section: from where releases come, whose they must be, and when they may be installed.
//!
//! Without the section a node is never updated. With it, what decides is `keys`: a registry, a mirror or a drive only
//! carries bytes.

use super::error::ConfigError;
use super::names::is_hostname;
use super::pem;
use super::reader::At;
use super::types::{Secret, Update, UpdateMode, Window};

/// Each is tried against each signature.
const MAX_KEYS: usize = 8;

/// Longest name of a repository that the specification of registries allows, with its host.
const MAX_IMAGE: usize = 255 + 1 + 253;

/// Longest user name or password.
const MAX_ACCOUNT: usize = 4096;

const KEYS: &[&str] = &[
    "image",
    "channel",
    "keys",
    "mode",
    "checkEveryMinutes",
    "window",
    "maxBytesPerSecond",
    "user",
    "password",
    "plainHttp",
    "blessAfterSeconds",
    "healthyWithinSeconds",
];

pub(super) fn update(at: &At<'_>) -> Result<Update, ConfigError> {
    let fields = at.mapping(KEYS)?;
    let expected = "REGISTRY/REPOSITORY without a tag, such as registry.example.com/astromesh-os";
    let image = fields
        .optional("image")
        .map(|at| at.parse(expected, |text| is_repository(text).then(|| text.to_owned())))
        .transpose()?;
    let expected = "a tag of 1 to 128 letters, digits, `.`, `_` and `-`";
    let channel = match fields.optional("channel") {
        None => "stable".to_owned(),
        Some(at) => at.parse(expected, |text| is_tag(text).then(|| text.to_owned()))?,
    };
    let expected = "a list of 1 to 8 public keys in PEM";
    let keys = fields.required("keys", expected)?;
    let keys = keys.list(expected, 1, MAX_KEYS)?.iter().map(public_key).collect::<Result<_, _>>()?;
    let mode = match fields.optional("mode") {
        None => UpdateMode::Manual,
        Some(at) => at.parse("manual or auto", |text| match text {
            "manual" => Some(UpdateMode::Manual),
            "auto" => Some(UpdateMode::Auto),
            _ => None,
        })?,
    };
    let number = |key: &str, default: u32, min: u32, max: u32| match fields.optional(key) {
        None => Ok(default),
        Some(at) => at.integer(min.into(), max.into()).map(|value| u32::try_from(value).unwrap_or(default)),
    };
    let window = fields
        .optional("window")
        .map(|at| at.parse("hours of the day in UTC, such as \"02:00-04:30\"", window))
        .transpose()?;
    let max_bytes_per_second =
        fields.optional("maxBytesPerSecond").map(|at| at.integer(4096, u64::from(u32::MAX))).transpose()?;
    let account = |key: &str| {
        fields
            .optional(key)
            .map(|at| {
                at.parse_hidden("1 to 4096 visible ASCII characters", |text| {
                    let valid = (1..=MAX_ACCOUNT).contains(&text.len())
                        && text.bytes().all(|byte| byte.is_ascii_graphic());
                    valid.then(|| text.to_owned())
                })
            })
            .transpose()
    };
    let (user, password) = (account("user")?, account("password")?);
    match (&user, &password) {
        (Some(_), None) => return Err(fields.missing("password", "the user's password")),
        (None, Some(_)) => return Err(fields.missing("user", "whose password it is")),
        _ => {}
    }
    if mode == UpdateMode::Auto && image.is_none() {
        return Err(fields.missing("image", "where `auto` looks for releases"));
    }
    Ok(Update {
        image,
        channel,
        keys,
        mode,
        check_every_minutes: number("checkEveryMinutes", 360, 1, 10_080)?,
        window,
        max_bytes_per_second,
        account: user.zip(password.map(Secret::new)),
        plain_http: fields.optional("plainHttp").map(|at| at.boolean()).transpose()?.unwrap_or(false),
        bless_after_seconds: number("blessAfterSeconds", 60, 1, 3600)?,
        healthy_within_seconds: number("healthyWithinSeconds", 600, 30, 7200)?,
    })
}

/// One public key; what is found instead is never repeated, since a private one may stand there.
fn public_key(at: &At<'_>) -> Result<String, ConfigError> {
    let text = at.text("a public key in PEM")?;
    match pem::decode(text, pem::PUBLIC_KEY).as_deref() {
        Ok([_]) => Ok(text.to_owned()),
        Ok(_) => Err(at.wrong_value("one public key", "several").hint("give each an entry of its own")),
        Err(error) => {
            let error = at.wrong_value("a `-----BEGIN PUBLIC KEY-----` block", &error.to_string());
            Err(error.hint("paste the whole image.pub (or cosign.pub) under `|`"))
        }
    }
}

/// `HOST[:PORT]/PATH` with lower-case path components (the OCI distribution specification's `name`), and no tag.
fn is_repository(text: &str) -> bool {
    let Some((registry, path)) = text.split_once('/') else { return false };
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    let port_is_one = port.is_none_or(|port| {
        (1..=5).contains(&port.len())
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    // The rule by which every client tells a registry from the first part of a repository's name.
    let names_a_host = host == "localhost" || host.contains('.') || port.is_some();
    let component = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
    };
    let is_host = is_hostname(host, 253) || host.parse::<std::net::Ipv4Addr>().is_ok();
    text.len() <= MAX_IMAGE && names_a_host && is_host && port_is_one && path.split('/').all(component)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

/// `HH:MM-HH:MM`; the end may lie on the next day, and a window of no length is none.
fn window(text: &str) -> Option<Window> {
    let (from, to) = text.split_once('-')?;
    let window = Window { from_minute: minute(from)?, to_minute: minute(to)? };
    (window.from_minute != window.to_minute).then_some(window)
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str, below: u16| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten().filter(|value| *value < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_pass_midnight() {
        let day = window("02:00-04:30").unwrap();
        assert!(day.contains(120) && day.contains(269) && !day.contains(270) && !day.contains(119));
        let night = window("23:30-01:00").unwrap();
        assert!(night.contains(1439) && night.contains(0) && !night.contains(60) && !night.contains(720));
        for bad in ["", "02:00", "2:00-03:00", "24:00-01:00", "02:60-03:00", "02:00-02:00", "02:00-03:00 "] {
            assert_eq!(window(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_repository_names_its_registry_and_no_tag() {
        for good in
            ["registry.example.com/astromesh-os", "localhost:5000/a/b", "10.0.2.101:5000/os", "localhost/os"]
        {
            assert!(is_repository(good), "{good}");
        }
        for bad in [
            "astromesh-os",
            "registry/os",
            "a.b/os:1",
            "a.b/os@sha256:00",
            "a.b/",
            "a.b//os",
            "a.b/OS",
            "a.b:0/os",
            "a.b:99999/os",
            "https://a.b/os",
            "a.b/-os",
            "u@a.b/os",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
    }
}
