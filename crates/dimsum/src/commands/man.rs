//! `dimsum man`.

use std::io;

use clap::{Args, CommandFactory as _};
use clap_mangen::Man as Page;

use crate::cli::Cli;
use crate::context::Context;
use crate::error::Error;

/// Print the manual page, for `man -l -`
#[derive(Debug, Args)]
pub struct Man {
    /// The command whose page to print [default: the overview]
    command: Option<String>,
}

impl Man {
    /// Prints the page in roff.
    ///
    /// # Errors
    /// If there is no such command, or the page cannot be written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let mut whole = Cli::command();
        whole.build();
        let page = match self.command {
            None => whole,
            Some(name) => whole.find_subcommand(&name).cloned().ok_or_else(|| Error::Usage {
                object: name,
                reason: "there is no such command".to_owned(),
                hint: "`dimsum --help` lists the commands",
            })?,
        };
        let mut roff = Vec::new();
        let rendered: io::Result<()> = Page::new(page).render(&mut roff);
        rendered.map_err(|source| Error::Output { source })?;
        context.output.with(|out| out.write_all(&roff))
    }
}
