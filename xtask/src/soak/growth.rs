//! Whether a node that stood is at its end what it was at its beginning: pure, so that its twins need no machine.

use super::samples::{Memory, Sample, Soak};
use crate::statistics::{Unit, median, text};
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;

/// A service settles for some minutes first: caches fill, buffers reach their size. Then there must be a beginning and an
/// end of some samples each.
pub const FEWEST_MINUTES: u64 = 15;
/// How many minutes are left out at the beginning.
const SETTLES: u64 = 5;
/// How much a service may have grown, in KiB. A page here and there is the kernel's: what is shared counts as a part, and
/// the part changes with who else has it mapped.
const MOST_KIB: u64 = 128;
/// Or in percent, for the Python runtime, whose arenas breathe by more than that.
const MOST_PERCENT: u64 = 3;

/// One service's beginning and end.
#[derive(Debug, PartialEq, Eq)]
struct Growth<'a> {
    name: &'a str,
    /// Medians of the first and the last third of what is left after settling, in KiB.
    began: u64,
    ended: u64,
    restarts: u32,
}

impl Growth<'_> {
    fn is_flat(&self) -> bool {
        self.ended.saturating_sub(self.began) <= MOST_KIB.max(self.began * MOST_PERCENT / 100)
    }
}

/// Of each service that was there in the first sample, and those that came later.
fn of(soak: &Soak) -> Result<Vec<Growth<'_>>> {
    let settled: Vec<_> = soak.samples.iter().filter(|sample| sample.second >= SETTLES * 60).collect();
    let third = settled.len() / 3;
    ensure!(third > 0, "{} samples are too few to compare", settled.len());
    let (first, last) = (&settled[..third], &settled[settled.len() - third..]);
    let names: std::collections::BTreeSet<_> =
        soak.samples.iter().flat_map(|sample| sample.services.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let began = middle(first, name).with_context(|| format!("{name} was not there at first"))?;
            let ended = middle(last, name).with_context(|| format!("{name} was not there in the end"))?;
            let restarts = soak.samples.iter().filter_map(|sample| sample.services.get(name));
            let restarts = restarts.map(|memory| memory.restarts).max().unwrap_or(0);
            Ok(Growth { name, began, ended, restarts })
        })
        .collect()
}

/// None when one of the samples lacks the service.
fn middle(samples: &[&Sample], name: &str) -> Option<u64> {
    let seen: Option<Vec<&Memory>> = samples.iter().map(|sample| sample.services.get(name)).collect();
    Some(median(&seen?.iter().map(|memory| memory.pss_kib).collect::<Vec<_>>()))
}

/// Refuses a service that was started again, or has grown.
pub fn check(soak: &Soak) -> Result<()> {
    let mut wrong = String::new();
    for growth in of(soak)? {
        let Growth { name, began, ended, restarts } = growth;
        if restarts > 0 {
            let _ = writeln!(wrong, "{name} was started again {restarts} times");
        }
        if !growth.is_flat() {
            let _ = writeln!(wrong, "{name} grew from {began} KiB to {ended} KiB");
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.trim_end())
}

/// As a table, with what the node went through below.
pub fn markdown(soak: &Soak) -> Result<String> {
    let mut rows = String::from(
        "| service | memory at first | in the end | may grow by | started again | |\n|---|--:|--:|--:|--:|---|\n",
    );
    for growth in of(soak)? {
        let kib = |value| text(Unit::Kib, value);
        let verdict = if growth.is_flat() && growth.restarts == 0 { "reached" } else { "**not reached**" };
        let Growth { name, began, ended, restarts } = growth;
        let most = MOST_KIB.max(began * MOST_PERCENT / 100);
        let _ = writeln!(
            rows,
            "| {name} | {} | {} | {most} KiB | {restarts} | {verdict} |",
            kib(began),
            kib(ended)
        );
    }
    let Soak { minutes, asked, polled, cable_pulled, .. } = soak;
    let _ = write!(
        rows,
        "\n{minutes} minutes; {} answers of the agent, {} to the operator ({} and {} lost, to a pulled cable for the \
         most part); the cable pulled {cable_pulled} times; `/var` full. Memory is proportional (PSS), the median of a third \
         of the samples, the first {SETTLES} minutes left out.\n",
        asked.0, polled.0, asked.1, polled.1
    );
    Ok(rows)
}

/// The saved figures, as Markdown.
pub fn saved(json: &[u8]) -> Result<String> {
    let soak = serde_json::from_slice(json)
        .context("bench/soak.json is of another version: run `cargo xtask soak --save`")?;
    markdown(&soak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A node with one service whose memory follows `kib`, a sample a minute.
    fn stood(kib: impl Fn(u64) -> u64, restarts: u32) -> Soak {
        let samples = (0..60).map(|minute| Sample {
            second: minute * 60,
            services: BTreeMap::from([("net".to_owned(), Memory { pid: 2, restarts, pss_kib: kib(minute) })]),
        });
        Soak { minutes: 60, asked: (9, 1), polled: (9, 0), cable_pulled: 3, samples: samples.collect() }
    }

    #[test]
    fn a_service_that_settles_is_flat_and_one_that_creeps_is_not() {
        check(&stood(|minute| 1000 + minute.min(4) * 100, 0)).unwrap();
        // Spikes are no growth.
        check(&stood(|minute| if minute % 10 == 0 { 9000 } else { 1000 }, 0)).unwrap();
        let crept = check(&stood(|minute| 1000 + minute * 5, 0)).unwrap_err().to_string();
        assert!(crept.contains("net grew from"), "{crept}");
    }

    #[test]
    fn a_service_that_was_started_again_or_vanished_is_refused() {
        let error = check(&stood(|_| 1000, 1)).unwrap_err().to_string();
        assert!(error.contains("started again"), "{error}");
        let mut gone = stood(|_| 1000, 0);
        gone.samples.last_mut().unwrap().services.clear();
        assert!(check(&gone).is_err());
    }

    #[test]
    fn too_few_samples_show_nothing() {
        let mut short = stood(|_| 1000, 0);
        short.samples.truncate(6);
        assert!(check(&short).is_err());
    }

    #[test]
    fn the_table_says_what_was_reached() {
        assert!(
            markdown(&stood(|_| 1024, 0))
                .unwrap()
                .contains("| net | 1.0 MiB | 1.0 MiB | 128 KiB | 0 | reached |")
        );
        assert!(markdown(&stood(|minute| minute * 100, 0)).unwrap().contains("**not reached**"));
    }
}
