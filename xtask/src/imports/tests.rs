//! Made-up crates with circles and their twins without, and the real tree.

use super::modules::Sources;
use super::{circles, edges};
use crate::project;
use std::fs;
use std::path::Path;

/// The circles in made-up files; the first is the crate's root.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    circles(&edges::edges(files[0].0, &sources(files)).unwrap())
}

fn sources(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// The files below a crate's `src/`.
fn read(root: &Path, below: &str, sources: &mut Sources) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
        if path.is_dir() {
            read(root, relative, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.insert(relative.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn no_file_imports_from_a_file_that_imports_from_it() {
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(project().join("Cargo.toml")).unwrap()).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let (mut wrong, mut files, mut imports) = (Vec::new(), 0, 0);
    for member in members.iter().map(|member| member.as_str().unwrap()) {
        let mut sources = Sources::new();
        read(&project().join(member).join("src"), "", &mut sources);
        files += sources.len();
        let is_root = |file: &&String| {
            matches!(file.as_str(), "lib.rs" | "main.rs")
                || file.strip_prefix("bin/").is_some_and(|rest| !rest.contains('/'))
        };
        for root in sources.keys().filter(is_root) {
            let edges = edges::edges(root, &sources).unwrap();
            imports += edges.len();
            wrong.extend(circles(&edges).into_iter().map(|circle| format!("in {member}: {circle}")));
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} circles; move what both sides need below both:\n{}", wrong.join("\n"));
    // Twin: the sources were read.
    assert!(files > 150 && imports > 300, "{files} files, {imports} imports");
}

#[test]
fn two_files_that_import_from_each_other_are_a_circle_and_it_names_their_paths() {
    let circle = found(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::{b::B as Other, c}; pub struct A(Other);"),
        ("b.rs", "pub struct B; fn b() { crate::a::A::make() }"),
    ]);
    assert_eq!(circle, ["a.rs -> b.rs -> a.rs\n    a.rs has crate::b::B\n    b.rs has crate::a::A::make"]);
    let twin = found(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B as Other; pub struct A(Other);"),
        ("b.rs", "pub struct B;"),
    ]);
    assert!(twin.is_empty(), "{twin:?}");
}

#[test]
fn a_child_that_takes_from_a_parent_that_takes_from_it_is_a_circle() {
    let child = ("show/child.rs", "use super::Look; pub struct Thing(Look);");
    for parent in [
        "mod child; use child::Thing; pub struct Look;",
        "mod child; pub use self::child::Thing; pub struct Look;",
        "mod child; pub struct Look; fn show() { child::Thing::show() }",
        "mod child; pub struct Look; fn show() { println!(\"{}\", child::Thing::show()) }",
        "mod child; pub struct Look; fn show() { use child as other; other::show() }",
        "mod child; use child::*; pub struct Look;",
        "mod child; use inside::*; mod inside { pub use super::child::Thing; } pub struct Look;",
    ] {
        let circle = found(&[("lib.rs", "mod show;"), ("show/mod.rs", parent), child]);
        assert_eq!(circle.len(), 1, "{parent}");
        assert!(circle[0].starts_with("show/child.rs -> show/mod.rs -> show/child.rs"), "{circle:?}");
    }
    // Twins: a declaration alone imports nothing, and a child may import nothing.
    let declared = ("show/mod.rs", "pub mod child; pub struct Look;");
    assert!(found(&[("lib.rs", "mod show;"), declared, child]).is_empty());
    let using = ("show/mod.rs", "mod child; use child::Thing; pub struct Look;");
    let alone = ("show/child.rs", "pub(super) struct Thing; pub(in crate::show) fn show() {}");
    assert!(found(&[("lib.rs", "mod show;"), using, alone]).is_empty());
}

#[test]
fn three_files_are_one_circle() {
    let circle = found(&[
        ("main.rs", "mod a; mod b; mod c; fn main() { a::a() }"),
        ("a.rs", "use crate::b; pub fn a() { b::b() }"),
        ("b.rs", "pub fn b() { super::c::c() }"),
        ("c.rs", "use crate::a::*; pub fn c() { a() }"),
    ]);
    assert_eq!(circle.len(), 1, "{circle:?}");
    assert!(circle[0].starts_with("a.rs -> b.rs -> c.rs -> a.rs\n"), "{circle:?}");
}

#[test]
fn a_re_export_leads_to_the_file_that_defines() {
    let root = ("lib.rs", "mod a; mod b; mod front; pub use a::A;");
    let front = ("front.rs", "pub use crate::b::B;");
    let user = ("a.rs", "use crate::front::B; pub struct A(B);");
    let circle = found(&[root, front, user, ("b.rs", "use crate::A; pub struct B;")]);
    assert_eq!(circle.len(), 1, "{circle:?}");
    assert!(circle[0].starts_with("a.rs -> b.rs -> a.rs\n"), "{circle:?}");
    // Twin: lib.rs passes A and B on, and who takes one from it doesn't depend on lib.rs.
    let root = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");
    let twin = found(&[root, ("a.rs", "use crate::B; pub struct A(B);"), ("b.rs", "pub struct B;")]);
    assert!(twin.is_empty(), "{twin:?}");
}

#[test]
fn tests_words_and_the_names_of_others_are_no_imports() {
    let root = ("lib.rs", "mod a; mod b;");
    let user = ("a.rs", "use crate::b::B; pub struct A(B);");
    for text in [
        "#[cfg(test)] mod tests { use crate::a::A; }",
        "#[cfg(test)] use crate::a::A;",
        "impl B { #[cfg(test)] fn b() -> crate::a::A {} }",
        "/// Of [`crate::a::A`].\nconst B: &str = \"crate::a::A\";",
        "// crate::a::A",
        "pub(in crate::a) struct B;",
        "use ::a::A; fn b() { a::A::b() }",
        "mod tests;",
    ] {
        let tests = ("b/tests.rs", "use crate::a::A;");
        assert!(found(&[root, user, ("b.rs", text), tests]).is_empty(), "{text}");
    }
    // Twins: the same where the compiler reads it.
    for text in [
        "mod inside { use crate::a::A; }",
        "#[cfg(unix)] use crate::a::A;",
        "impl B { fn b() -> crate::a::A {} }",
        "const B: &str = crate::a::A;",
        "#[derive(crate::a::A)] struct B;",
        "fn b() { assert!(matches!(1, crate::a::A)) }",
        "fn b() { vec![1, { super::a::A }] }",
    ] {
        assert_eq!(found(&[root, user, ("b.rs", text)]).len(), 1, "{text}");
    }
}

#[test]
fn a_module_without_its_file_is_an_error_and_not_an_empty_one() {
    assert!(edges::edges("lib.rs", &sources(&[("lib.rs", "mod a;")])).is_err());
    assert!(edges::edges("lib.rs", &sources(&[("lib.rs", "mod a;"), ("a.rs", "use {")])).is_err());
    assert!(edges::edges("lib.rs", &sources(&[("lib.rs", "mod a;"), ("a/mod.rs", "")])).is_ok());
}
