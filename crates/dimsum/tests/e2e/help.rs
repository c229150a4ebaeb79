//! The help of every command, against `help.txt`: a change of the command line is seen in review.
//!
//! `DIMSUM_BLESS=1 cargo test --workspace --test e2e help` writes the file anew.

use clap::CommandFactory as _;
use dimsum::cli::Cli;

/// Columns, so that the text does not depend on the terminal.
const WIDTH: usize = 110;

fn help() -> String {
    let mut whole = Cli::command().term_width(WIDTH);
    whole.build();
    let mut text = whole.render_long_help().to_string();
    let names: Vec<String> = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        let command = whole.find_subcommand_mut(&name).unwrap();
        text.push_str(&format!("\n==== dimsum {name}\n\n{}", command.render_long_help()));
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

#[test]
fn the_help_is_as_reviewed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/help.txt");
    let now = help();
    if std::env::var_os("DIMSUM_BLESS").is_some() {
        std::fs::write(file, &now).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), now, "see the head of this file");
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}
