//! Import circles: files of a crate that use each other in a ring can be read only together.
//!
//! An arrow leads from a file to the file that defines what it uses: `use crate::…`, `super::…`, and paths in the code.
//! A name that a module re-exports leads to the file it comes from. A `mod.rs` that only re-exports is in no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::rust::{self, Module, ModulePath};

/// Files in one circle of a crate. Up to this many files are two or three halves of one thing, and read as one.
const MAX_CIRCLE: usize = 5;
/// Re-exports that are followed for one name: a longer chain is a mistake.
const MAX_HOPS: usize = 8;

/// Circles that stand until their crates have been cut: the crate and its largest circle.
const FOR_NOW: &[(&str, usize)] = &[("dimsum-convert", 6), ("dimsum-store", 19)];

pub fn check() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (name, source) in super::crates()? {
        let allowed =
            FOR_NOW.iter().find(|(crate_name, _)| *crate_name == name).map_or(MAX_CIRCLE, |(_, files)| *files);
        for circle in circles(&source)?.into_iter().filter(|circle| circle.len() > allowed) {
            findings.push(format!("{name} has a circle of {} files: {}", circle.len(), circle.join(", ")));
        }
    }
    Ok(findings)
}

/// The circles of a crate, largest first.
fn circles(source: &Path) -> Result<Vec<Vec<String>>> {
    let modules = rust::modules(source)?;
    let arrows = arrows(&modules);
    let mut circles: Vec<Vec<String>> = strongly_connected(&arrows)
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .map(|circle| {
            circle.iter().map(|path| if path.is_empty() { "lib".to_owned() } else { path.join("/") }).collect()
        })
        .collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    Ok(circles)
}

type ImportGraph = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

fn arrows(modules: &BTreeMap<ModulePath, Module>) -> ImportGraph {
    let mut re_exports: BTreeMap<&ModulePath, BTreeMap<String, ModulePath>> = BTreeMap::new();
    let mut uses: BTreeMap<&ModulePath, Vec<ModulePath>> = BTreeMap::new();
    for (path, module) in modules {
        for UsedName { target, alias, is_public } in used(&module.tokens, path, modules) {
            if is_public {
                re_exports.entry(path).or_default().insert(alias, target);
            } else {
                uses.entry(path).or_default().push(target);
            }
        }
    }
    let mut graph: ImportGraph = modules.keys().map(|path| (path.clone(), BTreeSet::new())).collect();
    for (from, targets) in uses {
        for target in targets {
            let to = defining(modules, &re_exports, target);
            if to != *from {
                graph.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    graph
}

/// The module that defines what this path names.
fn defining(
    modules: &BTreeMap<ModulePath, Module>,
    re_exports: &BTreeMap<&ModulePath, BTreeMap<String, ModulePath>>,
    mut path: ModulePath,
) -> ModulePath {
    for _ in 0..MAX_HOPS {
        let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length])).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let (module, rest) = (module.to_vec(), rest.to_vec());
        let next = rest.first().and_then(|name| re_exports.get(&module)?.get(name));
        match next {
            Some(next) => path = [next.clone(), rest[1..].to_vec()].concat(),
            None => return module,
        }
    }
    path
}

/// One name that a module uses.
struct UsedName {
    /// Where it lies in the crate.
    target: ModulePath,
    /// What it is called here.
    alias: String,
    is_public: bool,
}

/// All that a module uses of its own crate.
fn used(tokens: &[String], module: &ModulePath, modules: &BTreeMap<ModulePath, Module>) -> Vec<UsedName> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
        if token == "use" {
            let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(tokens.len() - at);
            let is_public = before == "pub" || (before == ")" && is_restricted(tokens, at));
            for path in expanded(&tokens[at + 1..end]) {
                let alias = path.alias;
                let known = |first: &String| modules.contains_key(&[module.clone(), vec![first.clone()]].concat());
                if let Some(target) = absolute(&path.words, module, known) {
                    found.push(UsedName { target, alias, is_public });
                }
            }
            at = end;
        } else if matches!(token.as_str(), "crate" | "super" | "self") && before != "::" && follows(tokens, at) {
            let mut words = vec![token.clone()];
            while follows(tokens, at) {
                words.push(tokens[at + 2].clone());
                at += 2;
            }
            if let Some(target) = absolute(&words, module, |_| false) {
                found.push(UsedName { target, alias: String::new(), is_public: false });
            }
        }
        at += 1;
    }
    found
}

/// Whether `pub(…)` stands before this token.
fn is_restricted(tokens: &[String], at: usize) -> bool {
    tokens[..at].iter().rev().skip_while(|token| *token != "(").nth(1).is_some_and(|token| token == "pub")
}

/// Whether `::` and a word follow this token.
fn follows(tokens: &[String], at: usize) -> bool {
    let word = tokens.get(at + 2).is_some_and(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'));
    word && tokens[at + 1] == "::"
}

/// The path from the crate's root, if the words lead into the crate.
fn absolute(words: &[String], module: &ModulePath, is_child: impl Fn(&String) -> bool) -> Option<ModulePath> {
    let (first, mut rest) = words.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let mut base = module.clone();
            base.pop();
            while let Some((first, further)) = rest.split_first()
                && first == "super"
            {
                base.pop();
                rest = further;
            }
            Some([base, rest.to_vec()].concat())
        }
        _ if is_child(first) => Some([module, words].concat()),
        _ => None,
    }
}

/// One path of a `use`.
#[derive(Debug, PartialEq, Eq)]
struct UsedPath {
    words: Vec<String>,
    alias: String,
}

/// The paths of `a::{b, c::d as e}`.
fn expanded(tokens: &[String]) -> Vec<UsedPath> {
    let Some(open) = tokens.iter().position(|token| token == "{") else {
        let mut words: Vec<_> = tokens.iter().filter(|token| *token != "::").cloned().collect();
        let mut alias = words.last().cloned().unwrap_or_default();
        if let Some(at) = words.iter().position(|word| word == "as") {
            words.truncate(at);
        }
        if words.last().is_some_and(|word| word == "self") {
            words.pop();
            alias = words.last().cloned().unwrap_or_default();
        }
        return if words.is_empty() { Vec::new() } else { vec![UsedPath { words, alias }] };
    };
    let (before, inside) = (&tokens[..open], &tokens[open + 1..]);
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, token) in inside.iter().enumerate() {
        let ends = depth == 0 && (token == "," || token == "}");
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if ends {
            if start < at {
                found.extend(expanded(&[before, &inside[start..at]].concat()));
            }
            start = at + 1;
        }
    }
    found
}

/// The strongly connected parts of a graph, by Tarjan's algorithm.
fn strongly_connected(graph: &ImportGraph) -> Vec<Vec<ModulePath>> {
    let mut search =
        CircleSearch { graph, order: BTreeMap::new(), low: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
    for node in graph.keys() {
        if !search.order.contains_key(node) {
            search.visit(node);
        }
    }
    search.found
}

struct CircleSearch<'a> {
    graph: &'a ImportGraph,
    order: BTreeMap<&'a ModulePath, usize>,
    low: BTreeMap<&'a ModulePath, usize>,
    stack: Vec<&'a ModulePath>,
    found: Vec<Vec<ModulePath>>,
}

impl<'a> CircleSearch<'a> {
    /// As deep as a crate has files.
    fn visit(&mut self, node: &'a ModulePath) {
        let order = self.order.len();
        self.order.insert(node, order);
        self.low.insert(node, order);
        self.stack.push(node);
        for next in self.graph.get(node).into_iter().flatten() {
            let Some((next, _)) = self.graph.get_key_value(next) else { continue };
            if !self.order.contains_key(next) {
                self.visit(next);
                self.low.insert(node, self.low[node].min(self.low[next]));
            } else if self.stack.contains(&next) {
                self.low.insert(node, self.low[node].min(self.order[next]));
            }
        }
        if self.low[node] == order {
            let start = self.stack.iter().position(|other| *other == node).unwrap_or(0);
            let mut part: Vec<_> = self.stack.drain(start..).cloned().collect();
            part.sort();
            self.found.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::{UsedPath, circles, expanded};
    use crate::rules::rust::tokens;

    fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        circles(directory.path()).expect("readable files")
    }

    #[test]
    fn a_group_of_uses_is_taken_apart() {
        let all = expanded(&tokens("crate::{a::{self, B as C}, d}"));
        let shown: BTreeMap<_, _> =
            all.iter().map(|UsedPath { words, alias }| (alias.as_str(), words.join("::"))).collect();
        let wanted = [("a", "crate::a"), ("C", "crate::a::B"), ("d", "crate::d")];
        assert_eq!(shown, wanted.map(|(alias, path)| (alias, path.to_owned())).into());
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; struct A;"),
            ("b.rs", "struct B(super::a::A);"),
            ("c.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found, [["a", "b"]]);
    }

    #[test]
    fn a_name_leads_to_the_file_it_is_re_exported_from() {
        let found = circles_of(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B; pub(crate) use c::C;"),
            ("a/b.rs", "use super::C;"),
            ("a/c.rs", "use crate::a::B;"),
        ]);
        assert_eq!(found, [["a/b", "a/c"]]);
    }

    #[test]
    fn tests_make_no_circle() {
        let found = circles_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; #[cfg(test)] mod tests;"),
            ("a/tests.rs", "use super::A;"),
            ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ]);
        assert_eq!(found, Vec::<Vec<String>>::new());
    }
}
