//! `dimsum convert`.

mod text;

use clap::Args;
use dimsum_engine::ConvertOptions;
use dimsum_engine::conversion::ConvertRequest;

use super::conversion_args::ConversionArgs;
use super::sharing_args::SharingArgs;
use crate::context::Context;
use crate::error::Error;

/// Make a Dimsum image of an ordinary image or a directory tree
///
/// An index becomes an index of converted images. Needs no privileges. The same source and options give the same bytes, whatever the number of jobs. Nothing is visible in
/// the target before the whole source is verified.
#[derive(Debug, Args)]
pub struct Convert {
    /// The source: [HOST/]REPO[:TAG], oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or dir:PATH
    source: String,
    /// The target: [HOST/]REPO:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG], made if it is not there
    target: String,
    /// Make an index in which each original stands before its Dimsum image, so that one name serves all clients
    #[arg(long)]
    with_original: bool,
    /// Keep recipes for the source's layers beside the image, so that `export` gives back the very blobs, or at least the tars. Takes a
    /// second pass over the source. For registries and oci:DIR
    #[arg(long)]
    keep_original: bool,
    #[command(flatten)]
    conversion: ConversionArgs,
    #[command(flatten)]
    sharing: SharingArgs,
}

impl Convert {
    /// Converts and prints a summary.
    ///
    /// # Errors
    /// If the source cannot be read or is refused, or the target cannot be written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (context, _interrupts) = context.with_interrupts()?;
        let options = ConvertOptions { keep_original: self.keep_original, ..self.conversion.options(&context) };
        let (source, target, with_original) = (self.source, self.target, self.with_original);
        let request = ConvertRequest { source, target, with_original, options, sharing: self.sharing.request() };
        let hint = "--with-original puts both under one name; else give the image another";
        let converted = context.engine.convert(&request).map_err(|error| Error::advised(error, hint))?;
        context.output.write(&converted)
    }
}
