//! How this program is the client, the keeper and the server of a store: always the same binary, told apart by arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dimsum_node::{Client, MountHandle, MountRequest, Program};

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
    let store = &context.engine.config().store;
    let client =
        Client::new(store, program(context, "keeper", &[])).map_err(Error::node(store.display().to_string()))?;
    Ok(client.with_cancel(context.engine.cancel().clone()))
}

/// Lets the server open an image and mount it; it is not attached yet. An ordinary image is converted into the store
/// first, by this process.
///
/// # Errors
/// If the server cannot be started, or the image cannot be had, converted or mounted.
pub fn mount(context: &Context, client: &Client, image: &str, target: &Path, fill: bool) -> Result<MountHandle, Error> {
    let mut request = MountRequest::new(&context.engine, image)?;
    (request.target, request.fill) = (target.display().to_string(), fill);
    client.mount(&context.engine, &request).map_err(Error::node(request.reference))
}

/// Returns this program with a command and the places of this node as arguments.
#[must_use]
pub fn program(context: &Context, command: &str, more: &[&str]) -> Program {
    let mut arguments: Vec<OsString> =
        vec![command.into(), "--store".into(), context.engine.config().store.clone().into()];
    arguments.extend(["--node-key".into(), context.engine.config().node_key.clone().into()]);
    arguments.extend(context.log.arguments().iter().chain(more).map(OsString::from));
    Program { path: PathBuf::from(THIS_PROGRAM), arguments }
}
