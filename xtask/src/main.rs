//! `cargo xtask`: what would be long shell.
//!
//! Everything here drives the built `dimsum` binary from outside, as a user would, and compares with programs that are not ours.

mod bench;
mod corpus;
mod demo;
mod deny;
mod dimsum;
mod faults;
mod kernel;
mod peers;
mod tree;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND
  demo [oci:DIR:TAG]            convert a real image, run it lazily, damage the store, report (root)
  corpus DIR OUT [NAME…]        every image of the corpus in DIR: convert, compare through four readers, run (root)
  bench WHAT DIR OUT [NAME…]    amplification, base, convert, defaults, hung, memory, meta, network, node, read, scale, sharing or update:
                                measurements of BENCHMARKS.md on the corpus in DIR, of these images only (root)
  faults LAYOUT OUT             damage every kind of file in store and layout of one image, kill -9 the server (root)
  away LAYOUT SECONDS OUT       take the registry of a mounted image away for so long (root)
  deny                          licences and banned crates of the dependency graph
  tree DIR                      list a file tree, one JSON object per entry
  tree-layers LAYOUT SCRATCH    the same from the one image of an OCI layout, unpacked by GNU tar into SCRATCH (root)
  tree-erofs FILE               the same from an EROFS image, through the erofs-rs crate
  tree-diff A B                 compare two such listings
  mount-erofs FILE DIR          mount an EROFS image file-backed, without a loop device (root)";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["deny"] => deny::run(),
        ["demo", image @ ..] => demo::run(image.first().copied()),
        ["corpus", directory, out, names @ ..] => corpus::run(directory.as_ref(), out.as_ref(), names),
        ["bench", what, directory, out, names @ ..] => bench::run(what, directory.as_ref(), out.as_ref(), names),
        ["faults", directory, out] => faults::run(directory.as_ref(), out.as_ref()),
        ["away", directory, seconds, out] => faults::away::run(directory.as_ref(), seconds, out.as_ref()),
        ["tree-layers", directory, scratch] => {
            let source = corpus::layout::Layout::open(directory.as_ref(), None)?;
            tree::print(&corpus::unpack::gnu_tar(&source, scratch.as_ref())?)
        }
        ["tree", directory] => tree::print(&tree::from_directory(directory.as_ref())?),
        ["tree-erofs", file] => tree::print(&tree::from_erofs(file.as_ref())?),
        ["tree-diff", a, b] => tree::diff_files(a.as_ref(), b.as_ref()),
        ["mount-erofs", file, directory] => kernel::mount_erofs(file.as_ref(), directory.as_ref()),
        _ => bail!("{USAGE}"),
    }
}
