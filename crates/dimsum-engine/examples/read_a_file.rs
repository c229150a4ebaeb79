//! Reads one file of an image, every byte proven, and fetches nothing else.
//!
//! `cargo run --example read_a_file -- oci:/images:v1 /etc/os-release /var/tmp/example`

use std::io::{self, Write as _};
use std::process::ExitCode;

use dimsum_engine::{Engine, EngineConfig, EngineError};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, path, node] = &arguments[..] else {
        let _unread = writeln!(io::stderr(), "usage: read_a_file IMAGE PATH DIRECTORY-OF-THE-NODE");
        return ExitCode::from(2);
    };
    match read(image, path, node) {
        Ok(_length) => ExitCode::SUCCESS,
        Err(error) => {
            let _unread = writeln!(io::stderr(), "{}: {error}", error.kind());
            ExitCode::from(error.kind().exit_status())
        }
    }
}

fn read(image: &str, path: &str, node: &str) -> Result<u64, EngineError> {
    let engine = Engine::new(EngineConfig::new(format!("{node}/store"), format!("{node}/node.key")));
    engine.open(image)?.read(path, &mut io::stdout().lock())
}
