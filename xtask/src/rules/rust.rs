//! Rust sources as the rules need them: words and signs, without comments, literals and tests.
//!
//! This is no parser. It knows just enough of the language to find `use`, paths, and the heads of types.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A path of modules inside a crate: empty is the crate's root.
pub type ModulePath = Vec<String>;

/// A module of a crate.
#[derive(Debug)]
pub struct Module {
    pub file: PathBuf,
    /// The tokens of the file: identifiers, `::`, and single signs.
    pub tokens: Vec<String>,
}

/// The modules below a source directory that are not tests.
pub fn modules(source: &Path) -> Result<BTreeMap<ModulePath, Module>> {
    let mut found = BTreeMap::new();
    let mut tests = Vec::new();
    let (mut pending, mut files) = (vec![source.to_owned()], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    for file in files {
        let relative = file.strip_prefix(source)?.with_extension("");
        let mut path: ModulePath = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            path.pop();
        }
        let (tokens, test_modules) = without_tests(tokens(&fs::read_to_string(&file)?));
        for module in test_modules {
            tests.push([path.clone(), vec![module]].concat());
        }
        // `lib.rs` and `main.rs` are both roots: their tokens are put together.
        let module = found.entry(path).or_insert_with(|| Module { file, tokens: Vec::new() });
        module.tokens.extend(tokens);
    }
    found.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
    Ok(found)
}

/// The tokens of a source text: identifiers, `::`, and single signs. Comments and literals are left out.
pub fn tokens(text: &str) -> Vec<String> {
    let mut rest = text;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..word].to_owned());
            word
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a string, byte string, C string or character that begins here. A lifetime is skipped like one.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).unwrap_or_default();
        rest.starts_with('"')
            || (prefix.ends_with('r') && rest.trim_start_matches('#').starts_with('"') && rest.starts_with('#'))
            || (*prefix == "b" && rest.starts_with('\''))
    });
    let prefix = prefix.unwrap_or_default();
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        return Some(prefix.len() + body[start..].find(&end).map_or(body.len(), |at| start + at + end.len()));
    }
    if body.starts_with('"') {
        return Some(prefix.len() + quoted(body, '"'));
    }
    if !body.starts_with('\'') {
        return None;
    }
    let inside = &body[1..];
    let is_character = inside.starts_with('\\') || inside.chars().nth(1) == Some('\'');
    if is_character {
        return Some(prefix.len() + quoted(body, '\''));
    }
    let name = inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len());
    Some(prefix.len() + 1 + name)
}

/// The length of what stands between two of these quotes, with both.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    text.len()
}

/// Leaves out what stands behind `#[cfg(test)]`; returns also the names of modules in files of their own that stand there.
fn without_tests(tokens: Vec<String>) -> (Vec<String>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let is_mark = tokens[at..].iter().take(MARK.len()).eq(MARK.iter());
        if !is_mark {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let start = at + MARK.len();
        let end = end_of_item(&tokens, start);
        let item = &tokens[start..end];
        if let [.., module, name, semicolon] = item
            && module == "mod"
            && semicolon == ";"
        {
            modules.push(name.clone());
        }
        at = end;
    }
    (kept, modules)
}

/// Where the item ends that begins at `start`: behind its `;` or its block.
fn end_of_item(tokens: &[String], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" {
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{tokens, without_tests};

    #[test]
    fn comments_and_literals_are_no_words() {
        let text = r###"fn a<'a>(x: &'a str) -> char { /* use /* crate::b */ */ f("use \" crate::c", b"d", r#"e" use"#, '\'', 'g', b'"'); 'h' } // use i"###;
        let words: Vec<_> = tokens(text).into_iter().filter(|word| word.starts_with(char::is_alphabetic)).collect();
        assert_eq!(words, ["fn", "a", "x", "str", "char", "f"]);
    }

    #[test]
    fn what_stands_behind_cfg_test_is_left_out() {
        let text = "use a::b; #[cfg(test)] #[path = \"x\"] mod far; #[cfg(test)] mod near { fn c(x: [u8; 3]) { d } } fn e() {}";
        let (kept, modules) = without_tests(tokens(text));
        assert_eq!(kept.join(" "), "use a :: b ; fn e ( ) { }");
        assert_eq!(modules, ["far"]);
    }
}
