//! No circles of files: a file imports only files that do not lead back to it, so that each can be read after those it rests on.
//!
//! An arrow is a path to another file of the crate, in a `use` or in the code. A name that a file re-exports counts for the file that
//! defines it. Calls of methods are no arrows. Tests are left out.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemUse, Macro, Path, UseTree, VisRestricted, Visibility};

/// Sources of the crates that have no circle.
const CRATES: &[&str] = &["daemon/src", "daemon/core/src", "cli/src", "cli/roll/src"];

/// Segments of a path; for a file, those of its module.
type Segments = Vec<String>;

/// A name that a `use` brings.
struct Import {
    /// The name in this file; `*` for all of a module.
    name: String,
    path: Segments,
    is_public: bool,
}

/// Paths in one file.
#[derive(Default)]
struct FilePaths {
    imports: Vec<Import>,
    /// Paths in the code.
    others: BTreeSet<Segments>,
}

impl FilePaths {
    fn read(text: &str) -> Self {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(text).unwrap());
        paths
    }

    fn import(&mut self, tree: &UseTree, mut path: Segments, is_public: bool) {
        let (last, name) = match tree {
            UseTree::Path(it) => {
                path.push(it.ident.to_string());
                return self.import(&it.tree, path, is_public);
            }
            UseTree::Group(group) => {
                let items = group.items.iter();
                return items.for_each(|item| self.import(item, path.clone(), is_public));
            }
            UseTree::Name(it) => (it.ident.to_string(), it.ident.to_string()),
            UseTree::Rename(it) => (it.ident.to_string(), it.rename.to_string()),
            UseTree::Glob(_) => ("self".to_owned(), "*".to_owned()),
        };
        path.extend((last != "self").then_some(last));
        let module = || path.last().cloned().unwrap_or_default();
        self.imports.push(Import {
            name: if name == "self" { module() } else { name },
            path,
            is_public,
        });
    }
}

impl<'ast> Visit<'ast> for FilePaths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(it) => &it.attrs,
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Mod(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, Vec::new(), is_public);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter();
        self.others
            .insert(segments.map(|it| it.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast Macro) {
        let text = it.tokens.to_string().replace(" :: ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let paths = text.split(|c| !is_part(c));
        let segments = paths.map(|path| path.split("::").map(str::to_owned).collect());
        self.others.extend(segments);
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("cfg")
            && it
                .parse_args::<Path>()
                .is_ok_and(|arg| arg.is_ident("test"))
    })
}

/// Files of a crate, by their modules.
struct Crate(BTreeMap<Segments, FilePaths>);

impl Crate {
    /// Reads files with their names in the crate's `src/`.
    fn read(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let files = files.into_iter().filter(|(name, _)| {
            !name.split('/').any(|it| it == "tests" || it == "tests.rs") && name != "main.rs"
        });
        let module = |name: &str| -> Segments {
            let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
            let segments = name.split('/').filter(|it| *it != "lib");
            segments.map(str::to_owned).collect()
        };
        Self(
            files
                .map(|(name, text)| (module(&name), FilePaths::read(&text)))
                .collect(),
        )
    }

    /// Returns a path of `file` as one from the root of the crate; `None` if it leads to another crate, or names something in the file.
    fn absolute(&self, file: &Segments, path: &Segments) -> Option<Segments> {
        let first = path.first()?;
        let mut base = file.clone();
        let mut rest = path.as_slice();
        match first.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while let Some((_, after)) = rest.split_first().filter(|(it, _)| *it == "super") {
                    base.pop();
                    rest = after;
                }
            }
            child => {
                let child = [file.as_slice(), &[child.to_owned()]].concat();
                self.0.get(&child)?;
            }
        }
        Some([base.as_slice(), rest].concat())
    }

    /// Returns the file that defines the end of an absolute path.
    fn definer(&self, path: &Segments) -> Option<Segments> {
        let known = (0..=path.len()).rev().map(|len| path[..len].to_vec());
        let file = known.into_iter().find(|it| self.0.contains_key(it))?;
        let rest = &path[file.len()..];
        let exported = self.0[&file]
            .imports
            .iter()
            .find(|import| import.is_public && Some(&import.name) == rest.first());
        match exported.and_then(|import| self.absolute(&file, &import.path)) {
            Some(origin) if origin != *path => {
                self.definer(&[origin.as_slice(), &rest[1..]].concat())
            }
            _ => Some(file),
        }
    }

    /// Returns the files that a file names.
    fn named_by(&self, file: &Segments) -> BTreeSet<Segments> {
        let FilePaths { imports, others } = &self.0[file];
        let mut named = Vec::new();
        for Import {
            name,
            path,
            is_public,
        } in imports
        {
            let Some(path) = self.absolute(file, path) else {
                continue;
            };
            let is_used = others.iter().any(|path| path.first() == Some(name));
            // Passing on a child's name is no use of it.
            if !*is_public || !path.starts_with(file) || is_used {
                named.push(path);
            }
        }
        let long = others.iter().filter(|path| path.len() > 1);
        named.extend(long.filter_map(|path| self.absolute(file, path)));
        let definers = named.iter().filter_map(|path| self.definer(path));
        definers.filter(|it| it != file).collect()
    }

    /// Returns the arrows that are part of a circle.
    fn circles(&self) -> Vec<String> {
        let arrows: BTreeMap<_, _> = self.0.keys().map(|it| (it, self.named_by(it))).collect();
        let leads_to = |from: &Segments, to: &Segments| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(file) = open.pop() {
                open.extend(arrows[file].iter().filter(|it| seen.insert(*it)));
            }
            seen.contains(to)
        };
        let all = arrows
            .iter()
            .flat_map(|(from, named)| named.iter().map(move |to| (*from, to)));
        all.filter(|(from, to)| leads_to(to, from))
            .map(|(from, to)| format!("{} -> {}", from.join("/"), to.join("/")))
            .collect()
    }
}

#[test]
fn files_form_no_circles() {
    for source in CRATES {
        let files = super::files(".rs").into_iter().filter_map(|(path, text)| {
            let name = path.strip_prefix(source)?.strip_prefix('/')?;
            Some((name.to_owned(), text))
        });
        let circles = Crate::read(files).circles();
        assert!(
            circles.is_empty(),
            "{source}: a type or a function stands in the wrong file: {circles:#?}"
        );
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let circles = |files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Crate::read(files).circles().len()
    };
    let lib = ("lib.rs", "mod a; mod b; pub use b::B;");
    let b = ("b/mod.rs", "pub(crate) struct B(super::a::A);");
    for a in [
        "use crate::b::B;",
        "use crate::{b::{B as C}};",
        "use crate::B;",
        "use super::*; use super::b;",
        "fn a() { crate::b::f() }",
        "fn a() { println!(\"{}\", crate::b::X); }",
        "use crate::b::c::C;",
    ] {
        let c = ("b/c.rs", "use super::B;");
        assert!(circles(&[lib, b, c, ("a.rs", a)]) > 0, "{a}");
    }
    for a in [
        "pub(in crate::b) struct A;",
        "#[cfg(test)]\nmod tests { use crate::b::B; }",
        "use std::fmt; fn a() { b::f() }",
    ] {
        assert_eq!(circles(&[lib, b, ("a.rs", a)]), 0, "{a}");
    }
}
