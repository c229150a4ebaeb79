//! `cargo xtask`: what would be long shell.
//!
//! Everything here drives the built `dimsum` binary from outside, as a user would, and compares with programs that are not ours.

mod bench;
mod corpus;
mod demo;
mod deny;
mod dimsum;
mod faults;
mod fuzz;
mod kernel;
mod long;
mod peers;
mod release;
mod rules;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND
  demo [oci:DIR:TAG]            convert a real image, run it lazily, damage the store, report (root)
  corpus DIR OUT [NAME…]        every image of the corpus in DIR: convert, compare through four readers, run (root)
  bench WHAT DIR OUT [NAME…]    amplification, base, convert, defaults, hung, memory, meta, network, node, read, scale, sharing or update:
                                measurements of BENCHMARKS.md on the corpus in DIR, of these images only (root)
  bench instructions [--bless]  instructions of hot functions against their baseline; or record them
  faults LAYOUT OUT             damage every kind of file in store and layout of one image, kill -9 the server (root)
  away LAYOUT SECONDS OUT       take the registry of a mounted image away for so long (root)
  rules                         the rules of the house: all that follow
  edges                         the arrows between crates, and the import circles inside each
  circles | names | lines       import circles, type names that are not unique, files and crates with too many lines
  words                         sentences of more than 25 words in comments
  fuzz SECONDS [TARGET…]        build the fuzz targets and run each so long
  long [NAME]                   list what takes longer than CI may, or run it (root)
  release OUT [--rehearse]      archive, checksums and bill of materials of the tagged commit; or of any commit
  deny                          licences and banned crates of the dependency graph
  tree DIR                      list a file tree, one JSON object per entry
  tree-layers LAYOUT SCRATCH    the same from the one image of an OCI layout, unpacked by GNU tar into SCRATCH (root)
  tree-erofs FILE               the same from an EROFS image, through the erofs-rs crate
  tree-diff A B                 compare two such listings
  mount-erofs FILE DIR          mount an EROFS image file-backed, without a loop device (root)";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["deny"] => deny::run(),
        ["long", name @ ..] if name.len() < 2 => long::run(name.first().copied()),
        ["release", out] => release::run(out.as_ref(), false),
        ["release", out, "--rehearse"] => release::run(out.as_ref(), true),
        ["fuzz", seconds, names @ ..] => fuzz::run(seconds.parse()?, names),
        ["rules"] => rules::run(None),
        ["edges"] => rules::run(Some("edges")).and_then(|()| rules::run(Some("circles"))),
        [rule @ ("circles" | "names" | "lines" | "words")] => rules::run(Some(rule)),
        ["demo", image @ ..] => demo::run(image.first().copied()),
        ["corpus", directory, out, names @ ..] => corpus::run(directory.as_ref(), out.as_ref(), names),
        ["bench", "instructions"] => bench::instructions::run(false),
        ["bench", "instructions", "--bless"] => bench::instructions::run(true),
        ["bench", what, directory, out, names @ ..] => bench::run(what, directory.as_ref(), out.as_ref(), names),
        ["faults", directory, out] => faults::run(directory.as_ref(), out.as_ref()),
        ["away", directory, seconds, out] => faults::away::run(directory.as_ref(), seconds, out.as_ref()),
        ["tree-layers", directory, scratch] => {
            let source = corpus::layout::CorpusLayout::open(directory.as_ref(), None)?;
            tree::print(&corpus::unpack::gnu_tar(&source, scratch.as_ref())?)
        }
        ["tree", directory] => tree::print(&tree::from_directory(directory.as_ref())?),
        ["tree-erofs", file] => tree::print(&tree::from_erofs(file.as_ref())?),
        ["tree-diff", a, b] => tree::diff_files(a.as_ref(), b.as_ref()),
        ["mount-erofs", file, directory] => kernel::mount_erofs(file.as_ref(), directory.as_ref()),
        _ => bail!("{USAGE}"),
    }
}
