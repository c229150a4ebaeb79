//! Mounts an image for as long as a command runs: a server is not needed. Needs root.
//!
//! `cargo run --example mount -- oci:/images:v1 /var/tmp/example /mnt ls -l /mnt`

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use dimsum_engine::{Engine, EngineConfig, EngineError, ImageMount};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, node, directory, program, words @ ..] = &arguments[..] else {
        let _unread = writeln!(io::stderr(), "usage: mount IMAGE DIRECTORY-OF-THE-NODE DIRECTORY COMMAND [WORD]...");
        return ExitCode::from(2);
    };
    match mount(image, node, directory) {
        Ok(mounted) => {
            let ended = Command::new(program).args(words).status();
            drop(mounted);
            ended.map_or(
                ExitCode::FAILURE,
                |status| if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            )
        }
        Err(error) => {
            let _unread = writeln!(io::stderr(), "{}: {}: {error}", error.kind(), error.object());
            ExitCode::from(error.kind().exit_status())
        }
    }
}

fn mount(image: &str, node: &str, directory: &str) -> Result<ImageMount, EngineError> {
    let engine = Engine::new(EngineConfig::new(format!("{node}/store"), format!("{node}/node.key")));
    engine.mount(&engine.open(image)?, Path::new(directory))
}
