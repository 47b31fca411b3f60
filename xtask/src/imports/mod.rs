//! No file may import from a file that imports from it, be it through others: who reads one of a circle has to read all
//! of it, and no part of it can be taken out. Here: no crate of the workspace has such a circle in its `src/`.
//!
//! The mend is always the same: what both sides need moves to a file of its own, below both.

mod edges;
mod modules;
mod tests;

use edges::Edges;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The circles among the imports of one crate, each as text: the files, and the paths that lead from one to the next.
/// For each file that lies on circles its shortest is told, and each circle once.
fn circles(edges: &Edges) -> Vec<String> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(from).or_default().push(to);
    }
    let mut seen = BTreeSet::new();
    let shortest = next.keys().filter_map(|file| shortest(file, &next));
    let new = shortest.filter(|circle| seen.insert(circle.iter().copied().collect::<BTreeSet<_>>()));
    new.collect::<Vec<_>>().iter().map(|circle| show(circle, edges)).collect()
}

/// The shortest way from a file back to itself.
fn shortest<'a>(start: &'a str, next: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for &file in next.get(way[way.len() - 1]).into_iter().flatten() {
                let way = [&way[..], &[file]].concat();
                if file == start {
                    return Some(way);
                }
                if seen.insert(file) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

/// `a.rs -> b.rs -> a.rs`, and below it what each arrow stands for.
fn show(circle: &[&str], edges: &Edges) -> String {
    let mut text = circle.join(" -> ");
    for pair in circle.windows(2) {
        let paths = edges.get(&(pair[0].to_owned(), pair[1].to_owned())).into_iter().flatten();
        let paths: Vec<_> = paths.map(String::as_str).collect();
        // Writing to a String can't fail.
        let _ = write!(text, "\n    {} has {}", pair[0], paths.join(", "));
    }
    text
}
