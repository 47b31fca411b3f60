//! SPECIFICATION.md names a test for each promise. Here: those tests exist.

#[cfg(test)]
mod tests {
    use crate::project;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Words of the specification that look like a test's name and are none.
    const NO_TESTS: [&str; 3] = ["kvm_amd", "kvm_intel", "restart_on_corruption"];

    /// What stands in backticks, in lower case with an underscore: a test's name.
    fn named(text: &str) -> BTreeSet<&str> {
        let is_name = |word: &&str| {
            let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            word.contains('_') && word.bytes().all(letters)
        };
        text.split('`').skip(1).step_by(2).filter(is_name).collect()
    }

    /// The names of all functions below a folder.
    fn functions(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "out" {
                functions(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for rest in text.split("fn ").skip(1) {
                    let end =
                        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    found.insert(rest[..end].to_owned());
                }
            }
        }
    }

    #[test]
    fn every_test_that_the_specification_names_exists() {
        let text = fs::read_to_string(project().join("SPECIFICATION.md")).unwrap();
        let mut there = BTreeSet::new();
        functions(&project(), &mut there);
        let missing: Vec<_> = named(&text)
            .into_iter()
            .filter(|name| !there.contains(*name) && !NO_TESTS.contains(name))
            .collect();
        assert!(missing.is_empty(), "SPECIFICATION.md names tests that are not there: {missing:?}");
        // Twin: the search finds a name that is not there.
        assert!(named("| x | `no_such_test_anywhere` |").iter().all(|name| !there.contains(*name)));
        assert!(named(&text).len() > 100);
    }
}
