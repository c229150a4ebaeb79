//! How this program is the client, the keeper and the server of a store: always the same binary, told apart by arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use dimsum_node::{Client, Program};

use crate::context::Context;
use crate::error::Error;
use dimsum_engine::image::make_store_directory;

/// Stays right when the file is replaced by an upgrade.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Returns the client of this node's store.
///
/// # Errors
/// If the store cannot be made or found.
pub fn client(context: &Context) -> Result<Client, Error> {
    make_store_directory(&context.engine)?;
    let client = Client::new(&context.engine.config().store, program(context, "keeper", &[]));
    client.map_err(|source| Error::Node {
        object: context.engine.config().store.display().to_string(),
        source: Box::new(source),
    })
}

/// Returns this program with a command and the places of this node as arguments.
#[must_use]
pub fn program(context: &Context, command: &str, more: &[&str]) -> Program {
    let mut arguments: Vec<OsString> =
        vec![command.into(), "--store".into(), context.engine.config().store.clone().into()];
    arguments.extend(["--node-key".into(), context.engine.config().node_key.clone().into()]);
    arguments.extend(more.iter().map(OsString::from));
    Program { path: PathBuf::from(THIS_PROGRAM), arguments }
}
