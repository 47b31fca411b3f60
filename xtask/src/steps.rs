//! The steps of `cargo xtask test`, how long each took, and how long it may take.
//!
//! What a test run costs grows a little with every change until nobody runs it any more. So each step has a ceiling with a
//! reason (`time-budget.toml`), and the run ends with a table that names what grew since the figures were saved
//! (`bench/time.json`, by `cargo xtask test --save`).
//!
//! Seconds depend on the machine. A step over its ceiling is named; one over twice its ceiling fails the run, which no
//! machine of the size that CI has reached without a defect.

use crate::project;
use anyhow::{Context as _, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// What a step may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    /// Seconds with a cache that has everything.
    warm: u32,
    /// Seconds with an empty cache; without it the same.
    cold: Option<u32>,
    /// Why that much.
    #[expect(dead_code, reason = "for people who read the file")]
    reason: String,
}

/// `time-budget.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    total: Ceiling,
    step: BTreeMap<String, Ceiling>,
}

/// A saved run, by step.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Saved(BTreeMap<String, u64>);

/// The steps so far.
pub struct Steps {
    budget: Budget,
    cold: bool,
    took: Vec<(String, u64)>,
}

impl Steps {
    /// None yet.
    pub fn begin() -> Result<Self> {
        let path = project().join("time-budget.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
        let budget = toml::from_str(&text).with_context(|| format!("{} is not a budget", path.display()))?;
        let kernels = astromesh_rootfs::Cache::default_path()?.join("kernels");
        let cold = fs::read_dir(kernels).map_or(true, |mut entries| entries.next().is_none());
        Ok(Self { budget, cold, took: Vec::new() })
    }

    /// Runs one.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let began = Instant::now();
        let result = work().with_context(|| format!("{name} failed"));
        let seconds = began.elapsed().as_secs();
        println!("== {name}: {seconds} s");
        self.took.push((name.to_owned(), seconds));
        result
    }

    /// Prints the table. An error when a step has no ceiling, or took over twice as long as it may.
    pub fn end(&self, save: bool) -> Result<()> {
        let saved = Saved::load();
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["step", "seconds", "at most", "saved", ""]);
        let mut far_over = Vec::new();
        let total: u64 = self.took.iter().map(|(_, seconds)| seconds).sum();
        let rows = self.took.iter().map(|(name, seconds)| (name.as_str(), *seconds));
        for (name, seconds) in rows.chain([("total", total)]) {
            let ceiling = if name == "total" { Some(&self.budget.total) } else { self.budget.step.get(name) };
            let ceiling = ceiling.with_context(|| {
                format!("the step {name:?} has no ceiling: give it one in time-budget.toml")
            })?;
            let most = u64::from(if self.cold { ceiling.cold.unwrap_or(ceiling.warm) } else { ceiling.warm });
            let before = if self.cold { None } else { saved.0.get(name) };
            if seconds > 2 * most {
                far_over.push(name);
            }
            let verdict = verdict(seconds, most, before.copied());
            let before = before.map_or_else(|| "-".to_owned(), ToString::to_string);
            table.add_row([name.to_owned(), seconds.to_string(), most.to_string(), before, verdict]);
        }
        for column in 1..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("\n## Time, with {} cache\n\n{table}", if self.cold { "an empty" } else { "a full" });
        ensure!(
            far_over.is_empty(),
            "took over twice as long as time-budget.toml allows: {}",
            far_over.join(", ")
        );
        if save && !self.cold {
            Saved(self.took.iter().cloned().chain([("total".to_owned(), total)]).collect()).save()?;
        }
        Ok(())
    }
}

/// What is to be said of a step.
fn verdict(seconds: u64, most: u64, before: Option<u64>) -> String {
    // Less than a quarter more, or less than five seconds more, is the host's other work.
    let grew = before.filter(|&before| seconds >= before + 5 && seconds * 4 > before * 5);
    match (seconds > most, grew) {
        (true, _) => "OVER its ceiling".to_owned(),
        (false, Some(before)) => format!("grew by {} s", seconds - before),
        (false, None) => String::new(),
    }
}

impl Saved {
    fn path() -> PathBuf {
        project().join("bench/time.json")
    }

    fn load() -> Self {
        fs::read(Self::path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn save(&self) -> Result<()> {
        fs::write(Self::path(), serde_json::to_string_pretty(self)? + "\n")
            .context("bench/time.json can't be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_or_is_over_is_named_and_noise_is_not() {
        assert_eq!(verdict(100, 120, Some(95)), "");
        assert_eq!(verdict(8, 120, Some(4)), "", "four seconds more are noise");
        assert_eq!(verdict(100, 120, Some(60)), "grew by 40 s");
        assert_eq!(verdict(121, 120, Some(120)), "OVER its ceiling");
        assert_eq!(verdict(100, 120, None), "");
    }

    #[test]
    fn the_budget_is_read_and_its_steps_add_up_to_no_more_than_its_total() {
        let budget = Steps::begin().unwrap().budget;
        let sum: u32 = budget.step.values().map(|ceiling| ceiling.warm).sum();
        // Ceilings leave room that no run uses in every step at once.
        assert!(sum <= budget.total.warm * 5 / 4, "{sum}");
    }
}
