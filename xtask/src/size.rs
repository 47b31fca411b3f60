//! What the image weighs, against `size-budget.toml` and against the last saved figures.

use crate::bytes::incompressible;
use crate::{image, project};
use anyhow::{Context as _, Result, bail};
use astromesh_qemu::node::Image;
use astromesh_rootfs::{Components, RootImage, components, variant};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args, Default)]
pub struct SizeArguments {
    /// As JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// As Markdown
    #[arg(long)]
    pub markdown: bool,
    /// Remember these figures as those that later ones are compared with
    #[arg(long)]
    pub save: bool,
}

/// `size-budget.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    image: Whole,
    component: BTreeMap<String, Component>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    limit: u64,
    goal: u64,
    #[expect(dead_code, reason = "for whoever reads the file; required, so that nobody leaves it out")]
    reason: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    ceiling: u64,
    reason: String,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    component: String,
    bytes: u64,
    ceiling: u64,
    /// Against the saved figures; 0 where there are none.
    change: i64,
}

/// The saved figures: bytes of each component.
type Sizes = BTreeMap<String, u64>;

/// The command.
pub fn report(arguments: &SizeArguments) -> Result<()> {
    let description = project().join("out/image.json");
    let image = if description.is_file() { Image::load(&description)? } else { image::build()? };
    let parts = components(&image.stage)
        .with_context(|| format!("{} is not there: run `cargo xtask build`", image.stage.display()))?;
    let sizes = measure(&image, parts)?;
    let budget = budget()?;
    let lines = compare(&budget, &sizes, &saved())?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else if arguments.markdown {
        print!("{}", markdown(&lines));
    } else {
        println!("{}", table(&lines));
    }
    if arguments.save {
        let path = saved_path();
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(&path, serde_json::to_string_pretty(&sizes)? + "\n")?;
    }
    check(&budget, &lines)
}

/// Builds the image with one more file of `bytes` bytes that nothing can compress, and demands that the budget refuses
/// it and names what grew. The file belongs to `other`, the component with the least room.
pub fn demand_refusal(image: &Image, bytes: usize) -> Result<()> {
    let base = RootImage {
        erofs: image.root.clone(),
        manifest: image.manifest.clone(),
        stage: image.stage.clone(),
        components: Components::default(),
    };
    let out = project().join("out/oversized");
    let root = variant::with_file(&base, &incompressible(bytes), &out)?;
    let larger = Image { root: root.erofs, ..image.clone() };
    let (budget, sizes) = (budget()?, measure(&larger, root.components)?);
    let before = measure(image, components(&image.stage)?)?;
    check(&budget, &compare(&budget, &before, &saved())?)
        .context("the image is over its budget without the file")?;
    match check(&budget, &compare(&budget, &sizes, &before)?) {
        Err(refusal) if refusal.to_string().contains("grown most: other by") => Ok(()),
        Err(refusal) => bail!("the budget refuses the larger image, but not for what grew: {refusal}"),
        Ok(()) => bail!("an image with {bytes} bytes more than the release is inside its budget"),
    }
}

fn budget() -> Result<Budget> {
    toml::from_str(&fs::read_to_string(project().join("size-budget.toml"))?)
        .context("size-budget.toml is not a budget")
}

fn saved_path() -> PathBuf {
    project().join("bench/size.json")
}

fn saved() -> Sizes {
    fs::read(saved_path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The stored bytes of each component, as the JSON that goes with an image.
pub fn json(image: &Image) -> Result<String> {
    let parts = components(&image.stage)
        .with_context(|| format!("{} is not there: run `cargo xtask build`", image.stage.display()))?;
    Ok(serde_json::to_string_pretty(&measure(image, parts)?)? + "\n")
}

/// The stored bytes of each component.
fn measure(image: &Image, parts: Components) -> Result<Sizes> {
    let length = |path: &Path| -> Result<u64> {
        Ok(fs::metadata(path)
            .with_context(|| format!("{} is not there: run `cargo xtask build`", path.display()))?
            .len())
    };
    let root = length(&image.root)?;
    let parts = parts.scaled_to(root);
    let (kernel, init, uki) = (length(&image.kernel)?, length(&image.initrd)?, length(&image.uki)?);
    let named = parts.python + parts.wheels + parts.libraries + parts.sysupdate;
    Ok(BTreeMap::from([
        // What firmware starts, the loader, and what makes the unified kernel image more than kernel and initramfs.
        (
            "boot".to_owned(),
            length(&image.preboot)? + length(&image.loader)? + uki.saturating_sub(kernel + init),
        ),
        ("kernel".to_owned(), kernel),
        ("init".to_owned(), init),
        ("python".to_owned(), parts.python),
        ("wheels".to_owned(), parts.wheels),
        ("libraries".to_owned(), parts.libraries),
        ("sysupdate".to_owned(), parts.sysupdate),
        // What rounding left over too, so that the parts make up the whole.
        ("other".to_owned(), root - named),
        ("verity".to_owned(), length(&image.verity)?),
    ]))
}

fn compare(budget: &Budget, sizes: &Sizes, before: &Sizes) -> Result<Vec<Line>> {
    if let Some(unknown) = budget.component.keys().find(|name| !sizes.contains_key(*name)) {
        bail!("size-budget.toml has a ceiling for {unknown:?}, which is no component of the image");
    }
    sizes
        .iter()
        .map(|(name, &bytes)| {
            let component = budget.component.get(name).with_context(|| {
                format!("size-budget.toml has no ceiling for {name:?}: give it one, and the reason")
            })?;
            let change = before.get(name).map_or(0, |&then| bytes.cast_signed() - then.cast_signed());
            Ok(Line { component: name.clone(), bytes, ceiling: component.ceiling, change })
        })
        .collect()
}

/// Fails when anything is over its ceiling, naming the largest growers.
fn check(budget: &Budget, lines: &[Line]) -> Result<()> {
    let total: u64 = lines.iter().map(|line| line.bytes).sum();
    let mut wrong = String::new();
    for line in lines.iter().filter(|line| line.bytes > line.ceiling) {
        let reason = budget.component.get(&line.component).map_or("", |component| component.reason.as_str());
        let _ = writeln!(
            wrong,
            "{} is {} over its ceiling of {} ({reason})",
            line.component,
            megabytes(line.bytes - line.ceiling),
            megabytes(line.ceiling)
        );
    }
    if total > budget.image.limit {
        let _ = writeln!(wrong, "the image is over its limit of {}", megabytes(budget.image.limit));
    }
    if total > budget.image.goal {
        let _ = writeln!(wrong, "the image is over this phase's goal of {}", megabytes(budget.image.goal));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let mut growers: Vec<_> = lines.iter().filter(|line| line.change > 0).collect();
    growers.sort_by_key(|line| -line.change);
    for line in growers.iter().take(3) {
        let _ = writeln!(wrong, "grown most: {} by {} bytes", line.component, line.change);
    }
    bail!("{}", wrong.trim_end())
}

fn table(lines: &[Line]) -> Table {
    let total: u64 = lines.iter().map(|line| line.bytes).sum();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["component", "size", "share", "ceiling", "change"]);
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in lines {
        table.add_row(cells(line, total));
    }
    let ceiling = lines.iter().map(|line| line.ceiling).sum();
    let change = lines.iter().map(|line| line.change).sum();
    table.add_row(cells(&Line { component: "image".to_owned(), bytes: total, ceiling, change }, total));
    table
}

fn markdown(lines: &[Line]) -> String {
    let total: u64 = lines.iter().map(|line| line.bytes).sum();
    let ceiling = lines.iter().map(|line| line.ceiling).sum();
    let change = lines.iter().map(|line| line.change).sum();
    let whole = Line { component: "**image**".to_owned(), bytes: total, ceiling, change };
    let mut text = String::from("| component | size | share | ceiling | change |\n|---|--:|--:|--:|--:|\n");
    for line in lines.iter().chain([&whole]) {
        let _ = writeln!(text, "| {} |", cells(line, total).join(" | "));
    }
    text
}

/// The saved figures beside their ceilings, as Markdown.
pub fn saved_table(json: &[u8]) -> Result<String> {
    let sizes: Sizes = serde_json::from_slice(json)
        .context("bench/size.json is of another version: run `cargo xtask size --save`")?;
    beside_ceilings(&budget()?, &sizes)
}

/// A component that the budget has and the saved figures haven't came in after they were saved: the whole is then not the
/// whole, and its row says so.
fn beside_ceilings(budget: &Budget, sizes: &Sizes) -> Result<String> {
    if let Some(unknown) = sizes.keys().find(|name| !budget.component.contains_key(*name)) {
        bail!("bench/size.json has {unknown:?}, which has no ceiling: run `cargo xtask size --save`");
    }
    let total: u64 = sizes.values().sum();
    let verdict = |bytes, most| if bytes <= most { "reached" } else { "**not reached**" };
    let mut text = String::from("| component | at most | measured | share | |\n|---|--:|--:|--:|---|\n");
    let mut missing = Vec::new();
    for (name, component) in &budget.component {
        let ceiling = megabytes(component.ceiling);
        if let Some(&bytes) = sizes.get(name) {
            let (size, share) = (megabytes(bytes), bytes * 100 / total.max(1));
            let verdict = verdict(bytes, component.ceiling);
            let _ = writeln!(text, "| {name} | {ceiling} | {size} | {share} % | {verdict} |");
        } else {
            missing.push(name.as_str());
            let _ = writeln!(text, "| {name} | {ceiling} | not saved yet | - | |");
        }
    }
    let without =
        if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(", ")) };
    let verdict = if missing.is_empty() { verdict(total, budget.image.goal) } else { "" };
    let (goal, size) = (megabytes(budget.image.goal), megabytes(total));
    let _ = writeln!(text, "| **image**{without} | {goal} | {size} | 100 % | {verdict} |");
    Ok(text)
}

fn cells(line: &Line, total: u64) -> [String; 5] {
    let change = if line.change == 0 { "-".to_owned() } else { format!("{:+} B", line.change) };
    let share = format!("{} %", line.bytes * 100 / total.max(1));
    [line.component.clone(), megabytes(line.bytes), share, megabytes(line.ceiling), change]
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(ceiling: u64, limit: u64) -> Budget {
        let component = Component { ceiling, reason: "because".to_owned() };
        Budget {
            image: Whole { limit, goal: limit, reason: String::new() },
            component: BTreeMap::from([("kernel".to_owned(), component)]),
        }
    }

    fn sizes(bytes: u64) -> Sizes {
        BTreeMap::from([("kernel".to_owned(), bytes)])
    }

    #[test]
    fn a_byte_over_the_ceiling_fails_and_names_what_grew() {
        let budget = budget(100, 1000);
        let lines = compare(&budget, &sizes(100), &sizes(90)).unwrap();
        assert!(check(&budget, &lines).is_ok());
        let lines = compare(&budget, &sizes(101), &sizes(90)).unwrap();
        let error = check(&budget, &lines).unwrap_err().to_string();
        assert!(
            error.contains("kernel") && error.contains("because") && error.contains("by 11 bytes"),
            "{error}"
        );
    }

    #[test]
    fn an_image_over_its_limit_fails_with_every_component_inside_its_own() {
        let budget = budget(5000, 1000);
        let lines = compare(&budget, &sizes(1001), &Sizes::new()).unwrap();
        assert!(check(&budget, &lines).is_err());
    }

    #[test]
    fn a_component_without_a_ceiling_and_a_ceiling_without_a_component_are_refused() {
        let extra = BTreeMap::from([("kernel".to_owned(), 1), ("shell".to_owned(), 1)]);
        assert!(compare(&budget(1, 1), &extra, &Sizes::new()).is_err());
        assert!(compare(&budget(1, 1), &Sizes::new(), &Sizes::new()).is_err());
    }

    #[test]
    fn a_component_that_was_never_saved_is_told_and_the_whole_is_not_judged() {
        let text = beside_ceilings(&budget(100, 1000), &sizes(101)).unwrap();
        assert!(text.contains("| kernel | 0.00 MB | 0.00 MB | 100 % | **not reached** |"), "{text}");
        assert!(text.contains("| **image** | 0.00 MB | 0.00 MB | 100 % | reached |"), "{text}");
        let text = beside_ceilings(&budget(100, 1000), &Sizes::new()).unwrap();
        assert!(text.contains("| kernel | 0.00 MB | not saved yet | - | |"), "{text}");
        assert!(text.contains("| **image**, without kernel | 0.00 MB | 0.00 MB | 100 % |  |"), "{text}");
        let stray = BTreeMap::from([("shell".to_owned(), 1)]);
        assert!(beside_ceilings(&budget(100, 1000), &stray).is_err());
    }

    #[test]
    fn the_projects_own_budget_is_one() {
        let text = fs::read_to_string(project().join("size-budget.toml")).unwrap();
        let budget: Budget = toml::from_str(&text).unwrap();
        assert!(budget.component.values().all(|component| !component.reason.is_empty()));
    }
}
