//! Texts of others, cut: an answer that has no room for them all would tell the operator nothing at all.
//!
//! What the runtime says of itself has no bound of its own, and a whole answer has one
//! ([`astromesh_proto::control::MAX_RESPONSE`]). So each text in an answer has a bound too, and the bounds add up to less.

/// Longest name of a check, in bytes.
pub const LONGEST_NAME: usize = 80;
/// Longest detail of a check, in bytes.
pub const LONGEST_DETAIL: usize = 400;
/// Longest reason of a status, in bytes.
pub const LONGEST_REASON: usize = 1000;

/// What stands where something was cut off.
const MARK: &str = "...";

/// `text` in at most `longest` bytes, which are more than a few; what was cut ends with a mark.
pub fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest - MARK.len()));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("as it was".to_owned(), 9), "as it was");
        assert_eq!(cut("as it was!".to_owned(), 9), "as it ...");
        assert_eq!(cut("éééééé".to_owned(), 10), "ééé...");
    }
}
