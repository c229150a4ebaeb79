//! Prints the tree of a directory, or of layer blobs laid one over the other, one line per path:
//!
//!     cargo run -p dimsum-tree --example dump -- DIRECTORY
//!     cargo run -p dimsum-tree --example dump -- LAYER…

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use dimsum_tree::{LayerDecoder, NullSink, Policy, Tree, merge, read_directory, read_layer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut tree: Option<Tree> = None;
    for argument in std::env::args_os().skip(1) {
        let path = Path::new(&argument);
        let mut sink = NullSink::default();
        let layer = if path.is_dir() {
            read_directory(path, &mut sink, Policy::default())?
        } else {
            let tar = LayerDecoder::new(File::open(path)?, None)?;
            read_layer(tar, tree.as_ref(), &mut sink, Policy::default())?
        };
        tree = Some(match tree {
            None => layer.tree.into_base()?,
            Some(lower) => merge(lower, &layer.tree)?,
        });
    }
    let mut output = BufWriter::new(std::io::stdout().lock());
    for entry in tree.iter().flat_map(Tree::dump) {
        writeln!(output, "{entry}")?;
    }
    output.flush()?;
    Ok(())
}
