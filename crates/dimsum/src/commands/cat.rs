//! `dimsum cat`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use dimsum_engine::FileType;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use dimsum_engine::EngineError;
use dimsum_engine::image;
use dimsum_engine::image::fs::ImageFs;

/// Print files of an image, verified, without mounting it
///
/// Needs no privileges. Fetched bytes are kept in the store, as if they had been read through a mount.
#[derive(Debug, Args)]
pub struct Cat {
    #[command(flatten)]
    image: ImageArg,
    /// The files, seen from the image's root; symbolic links are followed inside the image
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl Cat {
    /// Prints the files one after the other.
    ///
    /// # Errors
    /// If a path leads to no regular file, or a byte does not prove. What was printed before is right.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let opened = image::open(&context.engine, &self.image.image)?;
        let name = opened.located.name();
        let fs = ImageFs::open(&opened.image, &name)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        for path in &self.paths {
            let path = path.as_os_str().as_bytes();
            let found = fs.find(path, true)?;
            if found.inode.file_type() != FileType::Regular {
                return Err(EngineError::Path { path: path.to_owned(), reason: "not a regular file" }.into());
            }
            let mut gone = false;
            fs.read_file(&found, |bytes| {
                gone = put(&mut out, bytes)?;
                Ok::<_, Error>(!gone)
            })?;
            if gone {
                return Ok(());
            }
        }
        put(&mut out, b"").map(|_gone| ())
    }
}

/// Writes bytes, or flushes if there are none; returns whether the reader went away.
fn put(out: &mut impl Write, bytes: &[u8]) -> Result<bool, Error> {
    let written = if bytes.is_empty() { out.flush() } else { out.write_all(bytes) };
    match written {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(source) => Err(Error::Output { source }),
    }
}
