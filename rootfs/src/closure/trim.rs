//! What is left out of the image, each cut with its written reason, from `trim.toml`.
//!
//! A rule cuts files, never "everything but": a file that a new version of a package adds stays in until somebody
//! decides. A rule that matches nothing fails the build, so the file never holds a reason that no longer applies.

use super::error::{ClosureError, write};
use crate::source::source_dir;
use crate::tree;
use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cut: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    patterns: Vec<String>,
    #[serde(default)]
    keep: Vec<String>,
    reason: String,
}

struct Compiled {
    patterns: Vec<(GlobMatcher, String)>,
    keep: Vec<GlobMatcher>,
    reason: String,
}

/// The rules of `trim.toml`.
pub struct TrimRules(Vec<Compiled>);

/// What one rule cut.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The rule's reason.
    pub reason: String,
    /// How many files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl TrimRules {
    /// Reads and checks `trim.toml`.
    pub fn load() -> Result<Self, ClosureError> {
        let path = source_dir().join("trim.toml");
        Self::parse(&fs::read_to_string(&path).map_err(write("reading", &path))?)
    }

    /// Parses the text of a rule file.
    pub fn parse(text: &str) -> Result<Self, ClosureError> {
        let file: File = toml::from_str(text).map_err(|error| ClosureError::ParseTrim(error.to_string()))?;
        let rules = file.cut.into_iter().map(|rule| {
            if rule.reason.trim().is_empty() {
                return Err(ClosureError::ParseTrim(format!("{:?} has no reason", rule.patterns)));
            }
            let patterns = rule.patterns.iter().map(|text| Ok((glob(text)?, text.clone())));
            let patterns = patterns.collect::<Result<_, ClosureError>>()?;
            let keep = rule.keep.iter().map(|text| glob(text)).collect::<Result<_, _>>()?;
            Ok(Compiled { patterns, keep, reason: rule.reason })
        });
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// Removes what the rules name from the tree, and the directories that this empties.
    pub fn apply(&self, stage: &Path) -> Result<Vec<Cut>, ClosureError> {
        let entries = tree::walk(stage).map_err(write("searching", stage))?;
        let files: Vec<_> = entries.iter().filter(|entry| !entry.metadata.is_dir()).collect();
        let mut removed: BTreeSet<&Path> = BTreeSet::new();
        let (mut cuts, mut idle) = (Vec::new(), Vec::new());
        for rule in &self.0 {
            let mut cut = Cut { reason: rule.reason.clone(), files: 0, bytes: 0 };
            for (pattern, text) in &rule.patterns {
                let mut matched = false;
                for entry in files.iter().filter(|entry| pattern.is_match(&entry.path)) {
                    matched = true;
                    if !rule.keep.iter().any(|keep| keep.is_match(&entry.path)) && removed.insert(&entry.path)
                    {
                        cut.files += 1;
                        cut.bytes += entry.metadata.len();
                    }
                }
                if !matched {
                    idle.push(text.as_str());
                }
            }
            cuts.push(cut);
        }
        if !idle.is_empty() {
            return Err(ClosureError::MatchTrim(idle.join("`, `")));
        }
        for path in removed {
            let path = stage.join(path);
            fs::remove_file(&path).map_err(write("removing", &path))?;
        }
        let dirs: Vec<PathBuf> =
            entries.iter().rev().filter(|e| e.metadata.is_dir()).map(|e| stage.join(&e.path)).collect();
        for dir in dirs {
            // Fails where something is left inside, which is the point.
            let _ = fs::remove_dir(dir);
        }
        Ok(cuts)
    }
}

fn glob(text: &str) -> Result<GlobMatcher, ClosureError> {
    let built: Result<Glob, _> = GlobBuilder::new(text).literal_separator(true).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| ClosureError::ParseTrim(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_of(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    #[test]
    fn a_rule_cuts_what_it_names_and_spares_what_it_keeps() {
        let dir = tree_of(&["a/tests/one.py", "a/two.py", "b/three.h", "b/keep.h"]);
        let rules =
            "[[cut]]\npatterns = [\"**/tests/**\", \"b/*.h\"]\nkeep = [\"b/keep.h\"]\nreason = \"r\"\n";
        let cuts = TrimRules::parse(rules).unwrap().apply(dir.path()).unwrap();
        assert_eq!((cuts[0].files, cuts[0].bytes), (2, 2));
        assert!(!dir.path().join("a/tests").exists() && dir.path().join("a/two.py").exists());
        assert!(!dir.path().join("b/three.h").exists() && dir.path().join("b/keep.h").exists());
    }

    #[test]
    fn a_rule_that_cuts_nothing_fails_the_build() {
        let dir = tree_of(&["a"]);
        let rules = TrimRules::parse("[[cut]]\npatterns = [\"b\"]\nreason = \"r\"\n").unwrap();
        assert!(matches!(rules.apply(dir.path()), Err(ClosureError::MatchTrim(_))));
    }

    #[test]
    fn a_cut_without_a_reason_is_refused() {
        assert!(TrimRules::parse("[[cut]]\npatterns = [\"b\"]\n").is_err());
        assert!(TrimRules::parse("[[cut]]\npatterns = [\"b\"]\nreason = \" \"\n").is_err());
    }
}
