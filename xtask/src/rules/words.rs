//! Words: a sentence in a comment has at most 25 words, so that it is read once.
//!
//! Crates that do not hold the rule yet have a budget, which may only shrink.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use crate::demo::files;

/// Words of a sentence: more are two sentences. `docs/check.py` has the same bound for the documents.
const MAX_WORDS: usize = 25;

/// Long sentences that a crate may still have: a name and a number for each line. Other crates may have none.
const BUDGETS: &str = include_str!("words.txt");

pub fn check() -> Result<Vec<String>> {
    let mut counts = BTreeMap::new();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, source) in super::crates()? {
        for file in files(&source)? {
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            for (line, words) in long_sentences(&fs::read_to_string(&file)?) {
                *counts.entry(name.clone()).or_insert(0) += 1;
                places.entry(name.clone()).or_default().push(format!("{}:{line} ({words} words)", super::shown(&file)));
            }
        }
    }
    let budgets = budgets(BUDGETS).context("xtask/src/rules/words.txt")?;
    Ok(findings(&counts, &budgets, &places))
}

fn budgets(text: &str) -> Result<BTreeMap<String, usize>> {
    text.lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').context("a line is a name and a number")?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

fn findings(
    counts: &BTreeMap<String, usize>,
    budgets: &BTreeMap<String, usize>,
    places: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, count) in counts {
        let budget = budgets.get(name).copied().unwrap_or(0);
        if *count > budget {
            let places = places.get(name).map(|places| places.join(", ")).unwrap_or_default();
            findings
                .push(format!("{name} has {count} sentences of more than {MAX_WORDS} words, not {budget}: {places}"));
        }
    }
    for (name, budget) in budgets {
        let count = counts.get(name).copied().unwrap_or(0);
        if count < *budget {
            findings
                .push(format!("{name} has {count} long sentences only: lower its line in xtask/src/rules/words.txt"));
        }
    }
    findings
}

/// Returns the sentences of comments that are too long: the line where their paragraph starts, and their words.
fn long_sentences(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (line, paragraph) in paragraphs(text) {
        found.extend(sentences(&paragraph).into_iter().filter(|words| *words > MAX_WORDS).map(|words| (line, words)));
    }
    found
}

/// Returns the paragraphs and list items of comments that have lines of their own, with the number of the first line.
/// Code, headings and tables are left out.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut marker, mut is_code, mut is_open) = ("", false, false);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(mark) = ["//!", "///", "//"].into_iter().find(|mark| line.starts_with(mark)) else {
            (marker, is_code, is_open) = ("", false, false);
            continue;
        };
        if mark != marker {
            (marker, is_code, is_open) = (mark, false, false);
        }
        let body = line.strip_prefix(mark).unwrap_or_default().trim();
        if body.starts_with("```") {
            (is_code, is_open) = (!is_code, false);
            continue;
        }
        if is_code {
            continue;
        }
        if body.is_empty() || body.starts_with("# ") || body.starts_with('|') {
            is_open = false;
        } else if let Some((_, paragraph)) = found.last_mut().filter(|_| is_open && !is_item(body)) {
            paragraph.push(' ');
            paragraph.push_str(body);
        } else {
            found.push((at + 1, body.to_owned()));
            is_open = true;
        }
    }
    found
}

fn is_item(body: &str) -> bool {
    let rest = body.trim_start_matches(|c: char| c.is_ascii_digit());
    body.starts_with("- ") || body.starts_with("* ") || (rest.len() < body.len() && rest.starts_with(". "))
}

/// Returns the number of words of each sentence. Code between backticks is one word.
fn sentences(paragraph: &str) -> Vec<usize> {
    let plain: String =
        paragraph.split('`').enumerate().map(|(at, text)| if at % 2 == 1 { "Code" } else { text }).collect();
    let (mut counts, mut count) = (Vec::new(), 0);
    let mut words = plain.split_whitespace().peekable();
    while let Some(word) = words.next() {
        count += usize::from(word.contains(char::is_alphanumeric));
        let ends = word.trim_end_matches(['"', ')', ']', '*']).ends_with(['.', '!', '?']);
        let starts = words.peek().is_none_or(|next| !next.starts_with(char::is_lowercase));
        if ends && starts {
            counts.push(std::mem::take(&mut count));
        }
    }
    counts.push(count);
    counts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{findings, long_sentences, paragraphs, sentences};

    #[test]
    fn sentences_end_at_stops_and_code_is_one_word() {
        assert_eq!(sentences("One two. Three `a b. C d` five, e.g. six? (Seven.)"), [2, 5, 1, 0]);
    }

    #[test]
    fn paragraphs_are_those_of_comments_without_code_and_tables() {
        let text = "//! A head\n//! of two lines.\n//!\n//! - one\n//!   more\n//! - two\n//! ```text\n//! code\n//! ```\n\
            //! | table |\nfn f() {} // behind code\n    // Inside.\n    /// Other.\n";
        let found = paragraphs(text);
        let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(
            found,
            [(1, "A head of two lines."), (4, "- one more"), (6, "- two"), (12, "Inside."), (13, "Other.")]
        );
    }

    #[test]
    fn a_sentence_of_26_words_is_too_long() {
        let sentence = |words: usize| format!("/// {}.\n/// Short.\n", vec!["word"; words].join(" "));
        assert_eq!(long_sentences(&sentence(25)), []);
        assert_eq!(long_sentences(&sentence(26)), [(1, 26)]);
    }

    #[test]
    fn a_budget_may_only_shrink() {
        let table = |rows: &[(&str, usize)]| rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let budgets: BTreeMap<_, _> = table(&[("as-allowed", 2), ("better", 2), ("clean", 1)]);
        let found = findings(&table(&[("as-allowed", 2), ("better", 1), ("new", 1)]), &budgets, &BTreeMap::new());
        let names: Vec<_> = found.iter().filter_map(|finding| finding.split(' ').next()).collect();
        assert_eq!(names, ["new", "better", "clean"]);
    }
}
