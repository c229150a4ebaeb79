//! Runs a command in a container of an image: a server is not needed. Needs root and runc.
//!
//! `cargo run --example run -- oci:/images:v1 /var/tmp/example ls -l /`

use std::io::{self, Write as _};
use std::process::ExitCode;

use dimsum_engine::container::{ContainerEnd, ProcessSignals, SignalFeed};
use dimsum_engine::{Engine, EngineConfig, EngineError};

fn main() -> io::Result<ExitCode> {
    // They are the container's. They are taken over before the first thread starts.
    let signals = ProcessSignals::take_over()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, node, command @ ..] = &arguments[..] else {
        writeln!(io::stderr(), "usage: run IMAGE DIRECTORY-OF-THE-NODE [COMMAND [WORD]...]")?;
        return Ok(ExitCode::from(2));
    };
    match run(image, node, command, &signals) {
        Ok(end) => Ok(ExitCode::from(end.exit_status)),
        Err(error) => {
            writeln!(io::stderr(), "{}: {}: {error}", error.kind(), error.object())?;
            Ok(ExitCode::from(error.kind().exit_status()))
        }
    }
}

/// Runs `command`, or the image's own if it is empty.
pub(crate) fn run(
    image: &str,
    node: &str,
    command: &[String],
    signals: &dyn SignalFeed,
) -> Result<ContainerEnd, EngineError> {
    let engine = Engine::new(EngineConfig::new(format!("{node}/store"), format!("{node}/node.key")));
    let opened = engine.open(image)?;
    let mut request = opened.container()?;
    request.overrides.command = command.to_vec();
    engine.run(&opened, &request, signals)
}
