//! Figures of figures: measurements and their tables share them.

/// The middle value; of an even number the upper one of the middle.
pub fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Milliseconds,
    Instructions,
    /// Of 1024 bytes.
    Kib,
    /// Of things.
    Count,
}

/// A value for people.
pub fn text(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Bytes => format!("{:.1} MB", as_f64(value) / 1e6),
        Unit::Milliseconds => format!("{:.1} s", as_f64(value) / 1e3),
        Unit::Instructions => format!("{:.2} G", as_f64(value) / 1e9),
        Unit::Kib => format!("{:.1} MiB", as_f64(value) / 1024.0),
        Unit::Count => value.to_string(),
    }
}

/// The median, and behind it the range where there is one.
pub fn with_range(unit: Unit, values: &[u64]) -> String {
    let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else { return "-".to_owned() };
    let middle = text(unit, median(values));
    let bare = |value| text(unit, value).split(' ').next().unwrap_or_default().to_owned();
    if bare(low) == bare(high) { middle } else { format!("{middle} [{}-{}]", bare(low), bare(high)) }
}

/// Exact for everything that is measured here: all of it is far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a boot has fewer than 2^53 instructions")]
pub fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_where_values_differ() {
        assert_eq!(with_range(Unit::Milliseconds, &[57_000, 52_000, 62_040]), "57.0 s [52.0-62.0]");
        assert_eq!(with_range(Unit::Milliseconds, &[57_010, 57_020]), "57.0 s");
        assert_eq!(with_range(Unit::Kib, &[2048]), "2.0 MiB");
        assert_eq!(with_range(Unit::Kib, &[]), "-");
    }
}
