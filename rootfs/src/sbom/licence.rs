//! From what packages state about their licence to what SPDX can say.
//!
//! Only names that mean one thing are translated. Debian's `BSD-3-clause-Berkeley`, `public-domain` or a wheel's
//! "BSD License" are no SPDX identifiers, and the nearest one would be a guess; the document then holds the
//! package's own text under a `LicenseRef-`. Where a package states several licences for different files, all hold.

/// What a package states about its licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Licence {
    /// An SPDX expression.
    Expression(String),
    /// No expression: what it says itself, in full.
    Text(String),
    /// Nothing that could be quoted.
    Unknown,
}

/// `(as stated, SPDX identifier)`; stated names are compared without regard to case, as SPDX's are. A name with a `+`
/// is the "or later" of Debian's format (machine-readable copyright files, version 1.0, section 7.1).
const NAMES: &[(&str, &str)] = &[
    ("0BSD", "0BSD"),
    ("Apache-2.0", "Apache-2.0"),
    ("BSD-2-Clause", "BSD-2-Clause"),
    ("BSD-3-Clause", "BSD-3-Clause"),
    ("BSL-1.0", "BSL-1.0"),
    ("Expat", "MIT"),
    ("GPL-1+", "GPL-1.0-or-later"),
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-2.0-only", "GPL-2.0-only"),
    ("GPL-2.0-or-later", "GPL-2.0-or-later"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("GPL-3.0-or-later", "GPL-3.0-or-later"),
    ("ISC", "ISC"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
    ("MIT", "MIT"),
    // Of PyPI's classifiers, the only ones in use here that name one text.
    ("MIT License", "MIT"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("MPL-1.1", "MPL-1.1"),
    ("MPL-2.0", "MPL-2.0"),
    ("PSF-2.0", "PSF-2.0"),
    ("Unicode-3.0", "Unicode-3.0"),
    ("Zlib", "Zlib"),
];

impl Licence {
    /// Of the statements in a manifest, with the text that the package brings.
    pub fn stated(statements: &[String], text: Option<&str>) -> Self {
        let expressions: Option<Vec<_>> = statements.iter().map(|one| expression(one)).collect();
        match (expressions, text.map(str::trim)) {
            (Some(all), _) if !all.is_empty() => Self::Expression(conjunction(all)),
            (_, Some(text)) if !text.is_empty() => Self::Text(text.to_owned()),
            _ => Self::Unknown,
        }
    }

    /// Of the `license` field of a crate: an SPDX expression, or the older form with a slash for OR.
    /// (<https://doc.rust-lang.org/cargo/reference/manifest.html#the-license-and-license-file-fields>)
    pub fn of_crate(field: &str) -> Self {
        if field.trim().is_empty() {
            Self::Unknown
        } else {
            Self::Expression(field.trim().replace('/', " OR "))
        }
    }
}

/// The SPDX expression of one statement: a known name, or known names joined by `and` and `or`.
fn expression(statement: &str) -> Option<String> {
    let identifier =
        |name: &str| NAMES.iter().find(|(stated, _)| stated.eq_ignore_ascii_case(name)).map(|(_, id)| *id);
    if let Some(id) = identifier(statement) {
        return Some(id.to_owned());
    }
    let mut words = Vec::new();
    for (index, word) in statement.split_whitespace().enumerate() {
        // Names at even places, operators between them; commas and exceptions are not read.
        words.push(match (index % 2, word.to_ascii_lowercase().as_str()) {
            (0, _) => identifier(word)?,
            (_, "and") => "AND",
            (_, "or") => "OR",
            _ => return None,
        });
    }
    (words.len() % 2 == 1).then(|| words.join(" "))
}

/// All of the expressions hold.
fn conjunction(mut all: Vec<String>) -> String {
    all.sort();
    all.dedup();
    if all.len() > 1 {
        for one in all.iter_mut().filter(|one| one.contains(' ')) {
            *one = format!("({one})");
        }
    }
    all.join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(statements: &[&str], text: Option<&str>) -> Licence {
        let statements: Vec<_> = statements.iter().map(|&one| one.to_owned()).collect();
        Licence::stated(&statements, text)
    }

    #[test]
    fn names_that_mean_one_thing_become_an_expression_in_which_all_hold() {
        let zstd = ["BSD-3-clause", "BSD-3-clause or GPL-2", "Expat", "GPL-2", "zlib"];
        let expected = "BSD-3-Clause AND (BSD-3-Clause OR GPL-2.0-only) AND GPL-2.0-only AND MIT AND Zlib";
        assert_eq!(stated(&zstd, None), Licence::Expression(expected.to_owned()));
        assert_eq!(stated(&["MIT License"], None), Licence::Expression("MIT".to_owned()));
    }

    #[test]
    fn a_name_that_could_mean_several_is_quoted_and_not_guessed_at() {
        for vague in ["BSD License", "Artistic", "public-domain", "GPL", "MIT or", "MIT, ISC", ""] {
            assert_eq!(stated(&["MIT", vague], Some("text\n")), Licence::Text("text".to_owned()), "{vague}");
        }
    }

    #[test]
    fn what_says_nothing_is_unknown() {
        assert_eq!(stated(&["see the file"], Some(" \n")), Licence::Unknown);
        assert_eq!(stated(&[], None), Licence::Unknown);
        assert_eq!(Licence::of_crate(" "), Licence::Unknown);
    }

    #[test]
    fn the_older_form_of_a_crates_licence_is_a_choice() {
        assert_eq!(Licence::of_crate("MIT/Apache-2.0"), Licence::Expression("MIT OR Apache-2.0".to_owned()));
    }
}
