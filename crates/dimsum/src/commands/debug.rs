//! `dimsum debug`: looks inside the server.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use dimsum_node::{FlightReport, FlightState};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::node::client;
use crate::output::{Report, Tame};

/// Look inside the server, where something hangs
#[derive(Debug, Args)]
pub struct DebugCommand {
    #[command(subcommand)]
    command: Look,
}

#[derive(Debug, Subcommand)]
enum Look {
    /// List the chunks that readers wait for: since when, for which step, and at which source
    ///
    /// The oldest come first. The number of a flight is the one that records of the server's log have with --log-level debug.
    Flights,
}

impl DebugCommand {
    /// Looks and prints.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let Look::Flights = self.command;
        let store = &context.engine.config().store;
        // Looking must not make a store.
        let (flights, total) = if store.is_dir() {
            client(context)?.flights().map_err(Error::node(store.display().to_string()))?
        } else {
            Default::default()
        };
        context.output.write(&FlightTable { flights, total })
    }
}

#[derive(Serialize)]
struct FlightTable {
    flights: Vec<FlightReport>,
    total: usize,
}

impl Report for FlightTable {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.total == 0 {
            return writeln!(out, "no reader waits for a chunk");
        }
        writeln!(out, "{:>8}  {:>7}  {:>7}  {:>8}  WAITS FOR", "FLIGHT", "SECONDS", "READERS", "ATTEMPTS")?;
        for FlightReport { flight, image, object, state, source, attempts, waiters, seconds } in &self.flights {
            let source = source.as_deref().map(|source| format!(", last asked {}", Tame(source))).unwrap_or_default();
            writeln!(out, "{flight:>8}  {seconds:>7}  {waiters:>7}  {attempts:>8}  {}{source}", step(*state))?;
            writeln!(out, "{:>8}  {} of image {image}", "", Tame(object))?;
        }
        let more = self.total.saturating_sub(self.flights.len());
        if more > 0 { writeln!(out, "{more} more, younger than these") } else { Ok(()) }
    }
}

/// The step that a flight waits for, in words.
const fn step(state: FlightState) -> &'static str {
    match state {
        FlightState::Another => "another image's flight",
        FlightState::Disk => "this disk",
        FlightState::Arriving => "an answer that is coming in",
        FlightState::Queued => "a free request",
        FlightState::Source => "the source",
        FlightState::Writing => "its write to the store",
        FlightState::Failed => "another image's flight, its own has failed",
        _ => "a step that this version does not know",
    }
}
