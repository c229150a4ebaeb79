//! Type names are unique in the workspace: a search for a name finds one thing.
//!
//! Types of tests and associated types do not count.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::rust;

/// Names that still stand for several types. A name that has become unique must be taken from the list.
const FOR_NOW: &str = include_str!("homonyms.txt");

pub fn check() -> Result<Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, source) in super::crates()? {
        for module in rust::modules(&source)?.into_values() {
            for name in types(&module.tokens) {
                places.entry(name).or_default().push(super::shown(&module.file));
            }
        }
    }
    Ok(findings(&places, &FOR_NOW.split_whitespace().collect()))
}

fn findings(places: &BTreeMap<String, Vec<String>>, for_now: &BTreeSet<&str>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, places) in places.iter().filter(|(name, places)| places.len() > 1 && !for_now.contains(name.as_str())) {
        findings.push(format!("{} types are called {name}: {}", places.len(), places.join(", ")));
    }
    for name in for_now.iter().filter(|name| places.get(**name).is_none_or(|places| places.len() < 2)) {
        findings.push(format!("{name} is unique: take it from xtask/src/rules/homonyms.txt"));
    }
    findings
}

/// The names of the types that these tokens define.
fn types(tokens: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    // Of each open brace: whether it is the body of an `impl` or a trait, where `type` is an associated type.
    let (mut bodies, mut is_body) = (Vec::new(), false);
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).filter(|next| next.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        let behind = tokens.get(at + 2).map(String::as_str);
        match token.as_str() {
            "{" => bodies.push(std::mem::take(&mut is_body)),
            "}" => {
                bodies.pop();
                is_body = false;
            }
            ";" => is_body = false,
            "impl" => is_body = true,
            "trait" => {
                is_body = true;
                found.extend(next.cloned());
            }
            "struct" | "enum" => found.extend(next.cloned()),
            "union" if matches!(behind, Some("{" | "<")) => found.extend(next.cloned()),
            "type" if bodies.last() != Some(&true) => found.extend(next.cloned()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{findings, types};
    use crate::rules::rust::tokens;

    #[test]
    fn types_are_found_and_associated_types_are_not() {
        let text = "pub struct A<T>(T); enum B { C } trait D { type E; } impl D for A<u8> { type E = u8; } type F = A<u8>; \
            fn g() -> impl D { struct H; } union I { j: u8 } macro_rules! k { () => { struct $name; } }";
        assert_eq!(types(&tokens(text)), ["A", "B", "D", "F", "H", "I"]);
    }

    #[test]
    fn a_second_type_of_a_name_is_found_and_so_is_a_needless_allowance() {
        let places: BTreeMap<_, _> = [("A", vec!["x", "y"]), ("B", vec!["x"]), ("C", vec!["x", "y"])]
            .map(|(name, places)| (name.to_owned(), places.into_iter().map(str::to_owned).collect()))
            .into();
        let found = findings(&places, &BTreeSet::from(["B", "C"]));
        assert_eq!(found, ["2 types are called A: x, y", "B is unique: take it from xtask/src/rules/homonyms.txt"]);
    }
}
