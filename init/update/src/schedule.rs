//! When the node looks for a release by itself, and when it may install one: a function of the clock and the policy.

use astromesh_proto::machine_config::{Update, UpdateMode};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Whether `auto` is to look now, `since` seconds after it last did (`None`: never since the service started), at `now`
/// seconds since 1970. Outside its window it does not even look: what it found could not be installed.
pub fn is_due(policy: &Update, now: u64, since: Option<u64>) -> bool {
    policy.mode == UpdateMode::Auto
        && is_open(policy, now)
        && since.is_none_or(|since| since >= u64::from(policy.check_every_minutes) * 60)
}

/// Whether `now`, in seconds since 1970, is inside the window; without one it always is.
pub fn is_open(policy: &Update, now: u64) -> bool {
    let minute = u16::try_from(now % DAY / 60).unwrap_or(0);
    policy.window.is_none_or(|window| window.contains(minute))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use astromesh_proto::machine_config::Window;

    pub fn policy(mode: UpdateMode, window: Option<Window>) -> Update {
        Update {
            image: Some("registry.example.com/os".to_owned()),
            channel: "stable".to_owned(),
            keys: Vec::new(),
            mode,
            check_every_minutes: 60,
            window,
            max_bytes_per_second: None,
            account: None,
            plain_http: false,
            bless_after_seconds: 60,
            healthy_within_seconds: 600,
        }
    }

    /// That hour of some day.
    pub fn at_hour(hour: u64) -> u64 {
        20_000 * DAY + hour * 3600
    }

    #[test]
    fn auto_looks_at_its_hour_and_not_more_often_than_it_should() {
        let window = Some(Window { from_minute: 120, to_minute: 180 });
        let auto = policy(UpdateMode::Auto, window);
        assert!(is_due(&auto, at_hour(2), None));
        assert!(is_due(&auto, at_hour(2), Some(3600)));
        assert!(!is_due(&auto, at_hour(2), Some(3599)));
        assert!(!is_due(&auto, at_hour(3), None), "outside its window");
        assert!(is_due(&policy(UpdateMode::Auto, None), at_hour(3), None));
    }

    #[test]
    fn manual_never_looks() {
        assert!(!is_due(&policy(UpdateMode::Manual, None), 0, None));
    }
}
