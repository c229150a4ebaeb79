//! `dimsum run`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dimsum_engine::ImageConfig;
use dimsum_engine::container::Overrides;
use dimsum_engine::container::{Bind, ContainerRequest, RunError};

use crate::context::Context;
use crate::error::Error;
use crate::node::client;
use crate::output::Report as _;
use crate::progress::note;
use crate::run::report::{Clock, RunReport};
use crate::run::session::Session;
use dimsum_engine::image;

/// Run a container from an image: only touched bytes are fetched, and every byte is verified
///
/// The image is mounted, an overlay takes what the container writes, and runc starts it. Standard input and output are
/// the container's, and the exit status is the command's. Signals are passed on (TERM as the image's stop signal). When
/// the command has ended, or this one was killed, the mounts are gone and written files are deleted. An ordinary image
/// is converted into the store first, once. Needs root.
#[derive(Debug, Args)]
#[command(override_usage = "dimsum run [OPTIONS] IMAGE [CMD]...")]
pub struct Run {
    /// The image, such as HOST/REPO:TAG, oci:DIR:TAG or REPO@sha256:…, and a command with its arguments instead of the
    /// image's own
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["IMAGE [CMD]"])]
    words: Vec<OsString>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Fetch the rest of the image behind the container's own reads, while it runs
    #[arg(long)]
    fill: bool,
    /// Report bytes, requests, verification and times: as JSON to FILE, else to standard error
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    report: Option<PathBuf>,
    /// Set an environment variable; without =V, to the value it has here
    #[arg(long = "env", value_name = "K[=V]")]
    env: Vec<String>,
    /// Run as USER[:GROUP], names of the image or numbers
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Start in this directory of the container
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// Use this entrypoint and not the image's command; an empty one is none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Choose the network of the container
    #[arg(long, value_enum, default_value_t = Net::Host)]
    net: Net,
    /// Show a directory or file of the host in the container
    #[arg(long, value_name = "SRC:DST[:ro]")]
    bind: Vec<Bind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Net {
    /// The host's.
    Host,
    /// Only loopback.
    None,
}

impl Run {
    /// Runs the container and returns its exit status.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(self, context: &Context) -> Result<ExitCode, Error> {
        let clock = Clock::start();
        let (context, interrupts) = context.with_interrupts()?;
        let mut words = self.words.iter().map(|word| text("an argument", word));
        let image = words.next().transpose()?.unwrap_or_default();
        let command = words.collect::<Result<Vec<_>, _>>()?;
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let (entrypoint, workdir) = (self.entrypoint.clone(), self.workdir.clone());
        let overrides = Overrides { command, entrypoint, env: self.environment(), workdir, terminal };
        // Named as everywhere: with absolute paths.
        let image = image::parse(&context.engine, &image)?.to_string();
        let container = |config: &ImageConfig| {
            let mut request = ContainerRequest::new(config)?;
            request.overrides = overrides.clone();
            request.user.clone_from(&self.user);
            request.read_only = self.read_only;
            request.own_network = self.net == Net::None;
            request.binds.clone_from(&self.bind);
            request.exec_hook = self.report.is_some().then(exec_hook).flatten();
            request.check()?;
            Ok(request)
        };
        let session = Session {
            context: &context,
            image: &image,
            container: &container,
            fill: self.fill,
            interrupts: &interrupts,
        };
        let report = session.run(&client(&context)?, &clock)?;
        if let Some(line) = report.integrity() {
            note(&format!("integrity: {line}"));
        }
        self.write(&context, &report)?;
        Ok(ExitCode::from(report.exit_status))
    }

    /// Returns the variables of the command line, values filled in.
    fn environment(&self) -> Vec<String> {
        let fill = |variable: &String| {
            if variable.contains('=') {
                return Some(variable.clone());
            }
            std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
        };
        self.env.iter().filter_map(fill).collect()
    }

    /// Writes the report; standard output belongs to the container.
    fn write(&self, context: &Context, report: &RunReport) -> Result<(), Error> {
        let Some(file) = &self.report else { return Ok(()) };
        if file != Path::new("-") {
            let json =
                serde_json::to_vec(report).map_err(|error| Error::io("write the report to", file, error.into()))?;
            return std::fs::write(file, json).map_err(|source| Error::io("write the report to", file, source));
        }
        let mut text = Vec::new();
        let written = if context.output.is_json() {
            serde_json::to_writer(&mut text, report).map_err(io::Error::from).and_then(|()| text.write_all(b"\n"))
        } else {
            report.text(&mut text)
        };
        let written = written.and_then(|()| io::stderr().write_all(&text));
        written.map_err(|source| Error::io("write the report to", Path::new("standard error"), source))
    }
}

/// The runtime's configuration is JSON.
fn text(what: &'static str, word: &OsString) -> Result<String, Error> {
    word.clone().into_string().map_err(|text| Error::Run {
        object: text.display().to_string(),
        source: Box::new(RunError::NotUtf8 { what, text }),
    })
}

/// Returns this program as the hook; none if its file was replaced meanwhile: the report lacks a time then.
fn exec_hook() -> Option<Vec<String>> {
    let program = std::env::current_exe().ok().filter(|program| program.exists())?;
    Some(vec![program.into_os_string().into_string().ok()?, "hook".to_owned()])
}
