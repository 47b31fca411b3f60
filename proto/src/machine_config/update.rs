//! The `update` section: from where releases come, whose they must be, and when they may be installed.
//!
//! Without the section a node is never updated. With it, what decides is `keys`: a registry, a mirror or a drive only
//! carries bytes.

use super::error::ConfigError;
use super::pem;
use super::reader::At;
use super::types::{Secret, Update, UpdateMode, Window};
use crate::image_name::{self, is_tag};

/// Each is tried against each signature.
const MAX_KEYS: usize = 8;

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
        .map(|at| at.parse(expected, |text| image_name::split(text).is_ok().then(|| text.to_owned())))
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
}
