//! The command line of Dimsum, as a library so that tests reach its parts.
//!
//! ```text
//! arguments → cli (one table) → commands/* → other crates → output (stdout: data) / progress, error (stderr)
//! ```
//!
//! Here errors get their words, hints and exit status, and only here ([`error`]). Only here the environment is read
//! ([`context`]). What a command does is in the file of its name below [`commands`]; what starts a container in [`run`].

#![forbid(unsafe_code)]
// Help texts are documentation comments: their brackets are no links.
#![cfg_attr(doc, allow(rustdoc::broken_intra_doc_links))]

pub mod cli;
pub mod commands;
pub mod context;
pub mod error;
pub mod json;
pub mod log;
pub mod node;
pub mod options;
pub mod output;
pub mod progress;
pub mod run;
pub mod signals;
pub mod trial;
pub mod views;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::context::Context;
use crate::error::Error;
use crate::options::Format;

/// Runs the program with its arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::from_arguments(std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with status 0, usage errors to standard error with status 2.
            if error.use_stderr() && wants_json() {
                return Error::Grammar { text: error.to_string() }.render(Format::Json);
            }
            let _unread = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let format = cli.common.format;
    let is_kept = cli.command.keeps_bytes();
    let done = Context::new(&cli.common).and_then(|context| {
        if !cli.command.has_log_of_its_own() {
            log::for_command(context.log);
        }
        cli.command.run(&context)
    });
    done.unwrap_or_else(|error| error.interrupted(is_kept).render(format))
}

/// Whether the arguments ask for JSON, though they make no sense as a whole.
fn wants_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let split = arguments.windows(2).any(|pair| matches!(pair, [name, value] if name == "--format" && value == "json"));
    split || arguments.iter().any(|argument| argument == "--format=json")
}
