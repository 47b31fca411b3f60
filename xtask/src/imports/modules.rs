//! The modules of one crate as its sources declare them, and where a path leads in them.
//!
//! A path is followed to the module that defines the item, through every `use` on the way: whoever imports a
//! re-export depends on the file behind it, not on the one that passes it on. A name that no file declares, such as
//! one that a macro makes, counts as an item of the module that the path names.

use std::collections::{BTreeMap, BTreeSet};
use syn::{Attribute, Item, UseTree, Visibility};

/// A crate's files: the text by the path below `src/`.
pub type Sources = BTreeMap<String, String>;

/// The modules of a crate; the first is its root.
pub struct Modules(Vec<Module>);

/// One module, in a file of its own or in its parent's.
pub struct Module {
    /// The file that it stands in.
    pub file: String,
    /// What it holds, without tests.
    pub items: Vec<Item>,
    parent: usize,
    names: BTreeMap<String, Vec<Definition>>,
    globs: Vec<Vec<String>>,
}

/// What a name stands for in a module. A name can stand for a module and a function at once.
enum Definition {
    Module(usize),
    Item,
    Import { path: Vec<String>, is_private: bool },
}

/// Where a path leads: to a module, or to an item that a module defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Module(usize),
    Item(usize),
}

/// One leaf of a `use`.
pub struct Leaf {
    /// The path, without a `self` at its end.
    pub path: Vec<String>,
    /// The name that it gets here; `None` for a glob.
    pub name: Option<String>,
}

/// Imports that are being followed, so that two that name each other end.
type Followed = BTreeSet<(usize, Vec<String>)>;

impl Modules {
    /// Reads the crate whose root is the file `root`.
    pub fn read(root: &str, sources: &Sources) -> Result<Self, String> {
        let mut modules = Self(Vec::new());
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        modules.add(0, root, parse(root, sources)?, folder, sources)?;
        Ok(modules)
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Module)> {
        self.0.iter().enumerate()
    }

    /// The file of what was found.
    pub fn file(&self, found: Found) -> &str {
        let (Found::Module(module) | Found::Item(module)) = found;
        &self.0[module].file
    }

    /// Adds a module and those below it, whose files are in `folder`.
    fn add(
        &mut self,
        parent: usize,
        file: &str,
        items: Vec<Item>,
        folder: &str,
        sources: &Sources,
    ) -> Result<usize, String> {
        let number = self.0.len();
        let items: Vec<_> = items.into_iter().filter(|item| !is_test(attributes(item))).collect();
        let (names, globs) = (BTreeMap::new(), Vec::new());
        self.0.push(Module { file: file.to_owned(), items: Vec::new(), parent, names, globs });
        for item in &items {
            let mut definitions = Vec::new();
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                    let (file, items) = if let Some((_, items)) = &module.content {
                        (file.to_owned(), items.clone())
                    } else {
                        let files = [format!("{below}.rs"), format!("{below}/mod.rs")];
                        let [there] =
                            &files.iter().filter(|file| sources.contains_key(*file)).collect::<Vec<_>>()[..]
                        else {
                            return Err(format!("{file} declares the module {name}, which is not one file"));
                        };
                        if there.rsplit('/').next() == Some("tests.rs") {
                            continue;
                        }
                        ((*there).clone(), parse(there, sources)?)
                    };
                    let child = self.add(number, &file, items, &below, sources)?;
                    definitions.push((name, Definition::Module(child)));
                }
                Item::Use(import) => {
                    let is_private = matches!(import.vis, Visibility::Inherited);
                    for Leaf { path, name } in leaves(import) {
                        match name {
                            Some(name) => definitions.push((name, Definition::Import { path, is_private })),
                            None => self.0[number].globs.push(path),
                        }
                    }
                }
                item => definitions.extend(name(item).map(|name| (name, Definition::Item))),
            }
            for (name, definition) in definitions {
                self.0[number].names.entry(name).or_default().push(definition);
            }
        }
        self.0[number].items = items;
        Ok(number)
    }

    /// Where a path leads that stands in the module `from`; nowhere for what another crate defines.
    pub fn resolve(&self, from: usize, path: &[String]) -> Vec<Found> {
        self.follow(from, path, &mut Followed::new())
    }

    /// What a module has imported itself and passes on to who imports all of it from `to`: to those below it, that is
    /// everything.
    pub fn passed_on(&self, found: Found, to: usize) -> Vec<Found> {
        let Found::Module(module) = found else { return Vec::new() };
        let is_below = self.ancestors(to).any(|one| one == module);
        let imports = self.0[module].names.values().flatten().filter_map(|definition| match definition {
            Definition::Import { path, is_private } if is_below || !is_private => Some(path),
            _ => None,
        });
        imports.flat_map(|path| self.resolve(module, path)).collect()
    }

    /// A module, and those that it stands in.
    fn ancestors(&self, module: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(module), |&module| (module != 0).then(|| self.0[module].parent))
    }

    fn follow(&self, from: usize, path: &[String], followed: &mut Followed) -> Vec<Found> {
        if !followed.insert((from, path.to_vec())) {
            return Vec::new();
        }
        let mut rest = path.iter();
        let Some(first) = rest.next() else { return Vec::new() };
        let mut found = match first.as_str() {
            "crate" => vec![Found::Module(0)],
            "self" => vec![Found::Module(from)],
            "super" => vec![Found::Module(self.0[from].parent)],
            name => self.look_up(from, name, followed).unwrap_or_default(),
        };
        for segment in rest {
            // What follows a type's name is of the type.
            if found.iter().any(|one| matches!(one, Found::Module(_))) {
                found.retain(|one| matches!(one, Found::Module(_)));
            }
            found = found
                .into_iter()
                .flat_map(|one| match one {
                    Found::Module(module) if segment == "super" => vec![Found::Module(self.0[module].parent)],
                    Found::Module(module) => {
                        self.look_up(module, segment, followed).unwrap_or_else(|| vec![Found::Item(module)])
                    }
                    Found::Item(_) => vec![one],
                })
                .collect();
        }
        followed.remove(&(from, path.to_vec()));
        found
    }

    /// What a name stands for in a module; `None` where it doesn't know the name.
    fn look_up(&self, module: usize, name: &str, followed: &mut Followed) -> Option<Vec<Found>> {
        let here = &self.0[module];
        if let Some(definitions) = here.names.get(name) {
            let found = definitions.iter().flat_map(|definition| match definition {
                Definition::Module(child) => vec![Found::Module(*child)],
                Definition::Item => vec![Found::Item(module)],
                Definition::Import { path, .. } => self.follow(module, path, followed),
            });
            return Some(found.collect());
        }
        here.globs.iter().find_map(|path| {
            self.follow(module, path, followed).into_iter().find_map(|found| match found {
                Found::Module(other) if other != module => self.look_up(other, name, followed),
                _ => None,
            })
        })
    }
}

/// Whether an item is compiled for tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The leaves of a `use`; none where it names another crate by `::`.
pub fn leaves(import: &syn::ItemUse) -> Vec<Leaf> {
    let mut found = Vec::new();
    if import.leading_colon.is_none() {
        walk(&import.tree, &mut Vec::new(), &mut found);
    }
    found
}

fn walk(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Leaf>) {
    let mut add = |last: &syn::Ident, name: Option<&syn::Ident>| {
        let mut path = path.clone();
        if last != "self" || path.is_empty() {
            path.push(last.to_string());
        }
        let name = name.map(ToString::to_string).or_else(|| path.last().cloned());
        found.push(Leaf { path, name });
    };
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            walk(&step.tree, path, found);
            path.pop();
        }
        UseTree::Name(name) => add(&name.ident, None),
        UseTree::Rename(rename) => add(&rename.ident, Some(&rename.rename)),
        UseTree::Glob(_) => found.push(Leaf { path: path.clone(), name: None }),
        UseTree::Group(group) => {
            for tree in &group.items {
                walk(tree, path, found);
            }
        }
    }
}

fn parse(file: &str, sources: &Sources) -> Result<Vec<Item>, String> {
    let text = sources.get(file).ok_or_else(|| format!("{file} is not there"))?;
    Ok(syn::parse_file(text).map_err(|error| format!("{file} can't be parsed: {error}"))?.items)
}

/// The name that an item defines.
fn name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
