//! SPECIFICATION.md promises, docs/tests.md says which test shows each promise. Here: the two agree with each other and
//! with the code.
//!
//! A reference is believed only as far as it can be looked up: a name has to be a `#[test]` in the file that stands
//! before it, not an ignored one, and some step of `cargo xtask test` has to run that file. That the test shows what
//! the promise says is for people to judge.

#[cfg(test)]
mod tests {
    use crate::project;
    use crate::test::{GATES, OTHER_TESTS};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    /// Words of the references that look like a test's name and are none: options, and functions that tests call.
    const NO_TESTS: [&str; 6] = [
        "assert_addressed",
        "kvm_amd",
        "kvm_intel",
        "power_off",
        "refused_without_a_certificate",
        "restart_on_corruption",
    ];

    /// A row of SPECIFICATION.md.
    struct Promise<'a> {
        text: &'a str,
        /// `yes`, `in part` or `pending`.
        shown: &'a str,
        reference: &'a str,
    }

    /// All rows, also those that lack something: they have an empty text there.
    fn promises(specification: &str) -> Vec<Promise<'_>> {
        let rows = specification.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
        rows.filter(|row| !row.trim_start().starts_with("promise ") && !row.starts_with("---"))
            .map(|row| {
                let mut cells = row.split('|').map(str::trim);
                let mut cell = || cells.next().unwrap_or_default();
                Promise { text: cell(), shown: cell(), reference: cell() }
            })
            .collect()
    }

    /// The entries of docs/tests.md, each as one line: `* **T12** text`, folded over lines that are indented.
    fn references(tests: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for line in tests.lines() {
            if let Some((name, text)) = line.strip_prefix("* **").and_then(|rest| rest.split_once("** ")) {
                found.push((name.to_owned(), text.to_owned()));
            } else if let (Some(rest), Some((_, text))) = (line.strip_prefix("  "), found.last_mut()) {
                text.push(' ');
                text.push_str(rest);
            }
        }
        found
    }

    /// The table of short names in docs/tests.md.
    fn short_names(tests: &str) -> BTreeMap<&str, &str> {
        tests
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('`');
                Some((cells.next()?, cells.nth(1)?)).filter(|(_, file)| file.contains('/'))
            })
            .collect()
    }

    /// The file that a text names last, by its path or by a short name and a colon.
    fn last_file<'a>(text: &'a str, short: &BTreeMap<&str, &'a str>) -> Option<&'a str> {
        let words = text.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
        words
            .filter_map(|word| {
                let path = word.trim_end_matches([':', ',', ';', '.']);
                let named = word.strip_suffix(':').and_then(|name| short.get(name).copied());
                named.or_else(|| is_path(path).then_some(path))
            })
            .next_back()
    }

    fn is_path(word: &str) -> bool {
        word.contains('/') && Path::new(word).extension().is_some_and(|extension| extension == "rs")
    }

    /// What stands in backticks, in lower case with an underscore: a test's name, with the file that stands before it.
    fn named<'a>(text: &'a str, short: &BTreeMap<&str, &'a str>) -> Vec<(&'a str, Option<&'a str>)> {
        let is_name = |word: &str| {
            let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            word.contains('_') && word.bytes().all(letters) && !NO_TESTS.contains(&word)
        };
        let (mut names, mut file) = (Vec::new(), None);
        for (index, piece) in text.split('`').enumerate() {
            if index % 2 == 0 {
                file = last_file(piece, short).or(file);
            } else if is_name(piece) {
                names.push((piece, file));
            }
        }
        names
    }

    /// The functions below a folder that are tests, each with its files.
    fn tests_below(folder: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "out" {
                tests_below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(project()).unwrap().to_string_lossy().into_owned();
                for name in tests_in(&fs::read_to_string(&path).unwrap()) {
                    found.entry(name).or_default().insert(file.clone());
                }
            }
        }
    }

    /// The functions of a file that have `#[test]` among the attributes before them, and are not ignored.
    fn tests_in(code: &str) -> Vec<String> {
        let (mut names, mut is_test, mut is_ignored) = (Vec::new(), false, false);
        for line in code.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test && !is_ignored) {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                names.push(rest[..end].to_owned());
            }
            let is_attribute = line.starts_with("#[");
            is_test = line == "#[test]" || is_test && is_attribute;
            is_ignored = is_attribute && (is_ignored || line.starts_with("#[ignore"));
        }
        names
    }

    /// The folders of the workspace's crates.
    fn members() -> Vec<String> {
        let text = fs::read_to_string(project().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&text).unwrap();
        let members = manifest["workspace"]["members"].as_array().unwrap();
        members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
    }

    /// Whether a step of `cargo xtask test` runs the tests in a file.
    fn is_run(file: &str, members: &[String]) -> bool {
        if let Some((folder, rest)) = file.split_once("/tests/") {
            let stem = rest.split_once('/').map_or(rest, |(module, _)| module).trim_end_matches(".rs");
            // A package has the name of its folder, wherever that is.
            let name = folder.rsplit('/').next().unwrap_or(folder);
            let others = OTHER_TESTS
                .iter()
                .filter(|(package, _)| package.strip_prefix("astromesh-").unwrap_or(package) == name);
            let gates = GATES.iter().filter(|_| folder == "qemu");
            let run: Vec<_> = others.chain(gates).flat_map(|(_, files)| files.iter().copied()).collect();
            if run.contains(&stem) {
                return true;
            }
            // A module of a file that is run.
            return rest.contains('/')
                && run.iter().any(|name| {
                    let path = project().join(folder).join("tests").join(format!("{name}.rs"));
                    fs::read_to_string(path).is_ok_and(|code| code.contains(&format!("mod {stem};")))
                });
        }
        // Unit tests: of every crate of the workspace. The fuzz targets have workspaces of their own.
        file.split_once("/src/").is_some_and(|(folder, _)| members.iter().any(|member| member == folder))
    }

    /// What is wrong between promises and references.
    fn at_odds(specification: &str, tests: &str) -> Vec<String> {
        let (promises, references) = (promises(specification), references(tests));
        let mut wrong = Vec::new();
        for Promise { text, shown, reference } in &promises {
            let Some((_, entry)) = references.iter().find(|(name, _)| name == reference) else {
                wrong.push(format!("the promise {text:?} has no reference in docs/tests.md: {reference:?}"));
                continue;
            };
            let entry = entry.to_lowercase();
            let really = match entry.contains("pending") {
                true if entry.starts_with("pending") => "pending",
                true => "in part",
                false => "yes",
            };
            if *shown != really {
                wrong.push(format!("{reference} says {really:?} of the promise {text:?}, the row {shown:?}"));
            }
        }
        let mut seen = BTreeSet::new();
        for (name, _) in &references {
            if !seen.insert(name) {
                wrong.push(format!("docs/tests.md has {name} twice"));
            }
            if !promises.iter().any(|promise| promise.reference == name) {
                wrong.push(format!("no promise of SPECIFICATION.md refers to {name}"));
            }
        }
        wrong
    }

    /// The names in references that are no tests of their file, or in a file that nothing runs.
    fn not_there(
        tests: &str,
        there: &BTreeMap<String, BTreeSet<String>>,
        is_run: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let short = short_names(tests);
        let mut wrong = Vec::new();
        for (reference, text) in references(tests) {
            for (name, file) in named(&text, &short) {
                match there.get(name) {
                    None => wrong.push(format!("{reference}: there is no test `{name}`, or it is ignored")),
                    Some(files) if !file.is_some_and(|file| files.contains(file)) => {
                        wrong.push(format!("{reference}: `{name}` is not in {file:?} but in {files:?}"));
                    }
                    Some(_) if !file.is_some_and(&is_run) => {
                        wrong.push(format!("{reference}: no step of `cargo xtask test` runs {file:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        wrong
    }

    fn pages() -> (String, String) {
        let read = |name| fs::read_to_string(project().join(name)).unwrap();
        (read("SPECIFICATION.md"), read("docs/tests.md"))
    }

    #[test]
    fn every_promise_has_a_reference_and_every_reference_a_promise() {
        let (specification, tests) = pages();
        let wrong = at_odds(&specification, &tests);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(promises(&specification).len() > 200);
    }

    #[test]
    fn every_test_that_a_reference_names_is_a_test_in_its_file() {
        let (_, tests) = pages();
        let mut there = BTreeMap::new();
        tests_below(&project(), &mut there);
        let members = members();
        let wrong = not_there(&tests, &there, |file| is_run(file, &members));
        assert!(wrong.is_empty(), "{wrong:#?}");
        let short = short_names(&tests);
        let references = references(&tests);
        assert!(references.iter().map(|(_, text)| named(text, &short).len()).sum::<usize>() > 200);
        // Files that are named without a test, as `oci/src/keys.rs, all tests`.
        let words =
            references.iter().flat_map(|(_, text)| text.split(|c: char| c.is_whitespace() || c == '('));
        let paths = words.map(|word| word.trim_matches(['`', ':', ',', ';', '.', ')']));
        let missing: Vec<_> =
            paths.clone().filter(|word| is_path(word) && !project().join(word).is_file()).collect();
        assert!(missing.is_empty(), "docs/tests.md names files that are not there: {missing:?}");
        // The examples are programs that a step runs by name.
        let idle: Vec<_> = paths
            .filter(|word| is_path(word) && !word.contains("/examples/") && !is_run(word, &members))
            .collect();
        assert!(idle.is_empty(), "docs/tests.md names files whose tests nothing runs: {idle:?}");
    }

    #[test]
    fn twin_what_is_at_odds_is_found() {
        let specification =
            "| promise | shown | test |\n|---|---|---|\n| a | yes | T1 |\n| b | in part | T2 |\n";
        let tests = "* **T1** x: `a_test`\n* **T2** one half;\n  the other pending\n";
        assert!(at_odds(specification, tests).is_empty());
        for (row, reason) in [
            ("| c | yes | |", "has no reference"),
            ("| c | yes |", "has no reference"),
            ("| c | yes | T3 |", "has no reference"),
            ("| c | yes | T2 |", "says \"in part\""),
        ] {
            let wrong = at_odds(&format!("{specification}{row}\n"), tests);
            assert!(wrong.len() == 1 && wrong[0].contains(reason), "{row}: {wrong:?}");
        }
        for (entry, reason) in [("* **T3** x", "no promise"), ("* **T1** x", "twice")] {
            let wrong = at_odds(specification, &format!("{tests}{entry}\n"));
            assert!(wrong.len() == 1 && wrong[0].contains(reason), "{entry}: {wrong:?}");
        }
    }

    #[test]
    fn twin_a_name_that_is_no_test_of_its_file_is_found() {
        let code = "#[test]\n#[ignore = \"slow\"]\nfn slow() {}\n\n#[ignore]\n#[test]\nfn also() {}\n\nfn a_helper() {}\n\
                    \n#[test]\n#[should_panic]\nfn a_test() {}\n";
        assert_eq!(tests_in(code), ["a_test"]);
        let there = BTreeMap::from([("a_test".to_owned(), BTreeSet::from(["q/tests/x.rs".to_owned()]))]);
        let short = "| `x` | `q/tests/x.rs` | CI |\n| `y` | `q/tests/y.rs` | CI |\n";
        let wrong = |entry: &str| not_there(&format!("{short}* **T1** {entry}\n"), &there, |_| true);
        for entry in ["x: `a_test`", "boots (q/tests/x.rs: `a_test`)", "x: `kvm_intel`, `a_test`"] {
            assert!(wrong(entry).is_empty(), "{entry}");
        }
        for entry in ["x: `a_helper`", "y: `a_test`", "`a_test`", "x: `a_test`; y: `a_test`"] {
            assert_eq!(wrong(entry).len(), 1, "{entry}");
        }
    }

    #[test]
    fn twin_a_file_that_no_step_runs_is_found() {
        let members = ["qemu".to_owned(), "init/net".to_owned()];
        for file in [
            "qemu/tests/phase0.rs",
            "qemu/tests/observed/mod.rs",
            "verity/tests/grow.rs",
            "init/net/src/a.rs",
        ] {
            assert!(is_run(file, &members), "{file}");
        }
        for file in [
            "qemu/tests/phase9.rs",
            "qemu/tests/probe/mod.rs",
            "oci/tests/phase0.rs",
            "proto/fuzz/src/a.rs",
            "init/other/src/a.rs",
            "verity/examples/race.rs",
        ] {
            assert!(!is_run(file, &members), "{file}");
        }
        let there = BTreeMap::from([("a_test".to_owned(), BTreeSet::from(["q/tests/x.rs".to_owned()]))]);
        let wrong = not_there("* **T1** q/tests/x.rs: `a_test`\n", &there, |_| false);
        assert!(wrong.len() == 1 && wrong[0].contains("no step"), "{wrong:?}");
    }
}
