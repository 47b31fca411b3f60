//! Which file of a crate imports from which: the graph in which a circle is looked for.
//!
//! Counted are `use` and paths in the code, those that macros and attributes are given among them. Not counted are
//! `mod x;`, visibilities such as `pub(super)`, text and documentation, and everything for tests only.

use super::modules::{Found, Modules, Sources, attributes, is_test, leaves};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

/// For each pair of an importing file and the one it imports from, the paths that do it.
pub type Edges = BTreeMap<(String, String), BTreeSet<String>>;

/// The imports of the crate whose root is the file `root`.
pub fn edges(root: &str, sources: &Sources) -> Result<Edges, String> {
    let modules = Modules::read(root, sources)?;
    let mut edges = Edges::new();
    for (number, module) in modules.iter() {
        let mut reader =
            Reader { modules: &modules, number, file: &module.file, blocks: Vec::new(), edges: &mut edges };
        for item in &module.items {
            // A module inside a file has a turn of its own.
            if !matches!(item, syn::Item::Mod(_)) {
                reader.visit_item(item);
            }
        }
    }
    Ok(edges)
}

/// Reads the items of one module.
struct Reader<'a> {
    modules: &'a Modules,
    number: usize,
    file: &'a str,
    /// What each block around the current place imports for itself: a name and its path.
    blocks: Vec<Vec<(String, Vec<String>)>>,
    edges: &'a mut Edges,
}

impl Reader<'_> {
    fn add(&mut self, path: &[String], found: impl IntoIterator<Item = Found>) {
        for found in found {
            let file = self.modules.file(found);
            if file != self.file {
                let edge = self.edges.entry((self.file.to_owned(), file.to_owned())).or_default();
                edge.insert(path.join("::"));
            }
        }
    }

    /// A path in the code. One word alone is a name of this module, which a `use` has brought.
    fn path(&mut self, path: &[String]) {
        let [first, _, ..] = path else { return };
        let imported = self.blocks.iter().rev().flatten().find(|(name, _)| name == first);
        let found = match imported {
            Some((_, import)) => self.modules.resolve(self.number, &[import, &path[1..]].concat()),
            None => self.modules.resolve(self.number, path),
        };
        // A function may be called what a module is called.
        let item = found.iter().any(|one| matches!(one, Found::Item(_)));
        self.add(path, found.into_iter().filter(|one| !item || matches!(one, Found::Item(_))));
    }

    /// The paths among tokens that no one has parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon =
            |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let begins = at < 2 || !(is_colon(at - 1) && is_colon(at - 2));
                    let mut path = vec![first.to_string()];
                    while is_colon(at + 1)
                        && is_colon(at + 2)
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if begins {
                        self.path(&path);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        for leaf in leaves(import) {
            let found = self.modules.resolve(self.number, &leaf.path);
            if leaf.name.is_none() {
                let passed_on = found
                    .iter()
                    .flat_map(|one| self.modules.passed_on(*one, self.number))
                    .collect::<Vec<_>>();
                self.add(&leaf.path, passed_on);
            }
            self.add(&leaf.path, found);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let imports = block.stmts.iter().filter_map(|statement| match statement {
            syn::Stmt::Item(syn::Item::Use(import)) => Some(leaves(import)),
            _ => None,
        });
        self.blocks.push(imports.flatten().filter_map(|leaf| Some((leaf.name?, leaf.path))).collect());
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}
