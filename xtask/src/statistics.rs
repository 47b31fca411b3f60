//! Figures of figures: measurements and their tables share them.

/// The middle value; of an even number the upper one of the middle.
pub fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
