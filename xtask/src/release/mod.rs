//! A release: from a tag to an archive, checksums and a bill of materials. Everything is made on this machine.
//!
//! `OUT` gets `dimsum-VERSION-x86_64-linux.tar.gz` with the program, its licence, documents, man pages and completions;
//! the bill of materials beside it; and `SHA256SUMS` over both. Times in the archive are the commit's, so the same commit
//! and toolchain give the same archive.

mod materials;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::dimsum::{Dimsum, tool, workspace};

/// The platform of the archive's name.
const PLATFORM: &str = "x86_64-linux";
/// Documents that go into the archive, where they exist.
const DOCUMENTS: &[&str] = &["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs/format.md"];
/// Completions: the shell, and the name of the file.
const SHELLS: &[(&str, &str)] = &[("bash", "dimsum.bash"), ("zsh", "_dimsum"), ("fish", "dimsum.fish")];

/// Makes the release of the commit that is checked out. A rehearsal takes any commit, and the binary in `$DIMSUM_BINARY`.
pub fn run(out: &Path, is_rehearsal: bool) -> Result<()> {
    let version = version()?;
    if !is_rehearsal {
        released_commit(&version)?;
    }
    fs::create_dir_all(out)?;
    let scratch = tempfile::Builder::new().prefix("dimsum-release-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let name = format!("dimsum-{version}-{PLATFORM}");
    let content = scratch.path().join(&name);
    fill(&dimsum, &content)?;
    let archive = out.join(format!("{name}.tar.gz"));
    pack(scratch.path(), &name, &archive)?;
    let materials = out.join(format!("{name}.cdx.json"));
    fs::write(&materials, materials::of_the_program(&version)?)?;
    let sums = checksums(out, &[&archive, &materials])?;
    proves_itself(&archive, &sums, &scratch.path().join("unpacked"), &version)?;
    println!("{}", fs::read_to_string(&sums)?.trim_end());
    Ok(())
}

/// The version that the workspace has.
fn version() -> Result<String> {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
    let section = manifest.split("[workspace.package]").nth(1).context("Cargo.toml has no [workspace.package]")?;
    let line = section.lines().find(|line| line.starts_with("version")).context("no version")?;
    Ok(line.split('"').nth(1).context("a version in quotes")?.to_owned())
}

/// A release is made of a clean commit that is tagged with its version.
fn released_commit(version: &str) -> Result<()> {
    let changes = git(&["status", "--porcelain"])?;
    ensure!(changes.is_empty(), "the work tree has changes; next: commit them\n{changes}");
    let tags = git(&["tag", "--points-at", "HEAD"])?;
    let wanted = format!("v{version}");
    ensure!(tags.lines().any(|tag| tag == wanted), "this commit has no tag {wanted}; next: `git tag -a {wanted}`");
    Ok(())
}

fn git(words: &[&str]) -> Result<String> {
    let root = workspace();
    let words: Vec<_> =
        ["-C", &root.to_string_lossy()].into_iter().chain(words.iter().copied()).map(str::to_owned).collect();
    tool("git", &words)
}

/// Everything that the archive holds.
fn fill(dimsum: &Dimsum, content: &Path) -> Result<()> {
    fs::create_dir_all(content.join("man"))?;
    fs::create_dir_all(content.join("completions"))?;
    fs::copy(&dimsum.binary, content.join("dimsum"))?;
    fs::set_permissions(content.join("dimsum"), fs::Permissions::from_mode(0o755))?;
    for document in DOCUMENTS {
        let source = workspace().join(document);
        if source.exists() {
            fs::copy(&source, content.join(source.file_name().context("a document has a name")?))?;
        }
    }
    fs::write(content.join("man/dimsum.1"), dimsum.ok(&["man"])?)?;
    for command in commands(&dimsum.ok(&["--help"])?) {
        fs::write(content.join(format!("man/dimsum-{command}.1")), dimsum.ok(&["man", &command])?)?;
    }
    for (shell, file) in SHELLS {
        fs::write(content.join("completions").join(file), dimsum.ok(&["completions", shell])?)?;
    }
    Ok(())
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    let word = |line: &str| {
        let is_command = !line.starts_with("   ");
        is_command.then(|| line.split_whitespace().next().map(str::to_owned)).flatten()
    };
    lines.filter_map(word).collect()
}

/// The same content and commit give the same bytes.
fn pack(directory: &Path, name: &str, archive: &Path) -> Result<()> {
    let time = git(&["log", "-1", "--format=@%ct"])?;
    let tar = archive.with_extension("");
    let status = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"])
        .arg(format!("--mtime={}", time.trim()))
        .arg("-C")
        .arg(directory)
        .arg("-cf")
        .arg(&tar)
        .arg(name)
        .status()?;
    ensure!(status.success(), "tar: {status}");
    let status = Command::new("gzip").args(["-9", "-n", "-f"]).arg(&tar).status()?;
    ensure!(status.success(), "gzip: {status}");
    Ok(())
}

/// Writes the sums of these files, as `sha256sum -c` reads them.
fn checksums(out: &Path, files: &[&PathBuf]) -> Result<PathBuf> {
    let mut text = String::new();
    for file in files {
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        let sum = tool("sha256sum", &[file.as_os_str()])?;
        let sum = sum.split_whitespace().next().context("a sum")?;
        text.push_str(&format!("{sum}  {name}\n"));
    }
    let sums = out.join("SHA256SUMS");
    fs::write(&sums, text)?;
    Ok(sums)
}

/// As who downloads it would: check the sums, unpack, ask for the version.
fn proves_itself(archive: &Path, sums: &Path, directory: &Path, version: &str) -> Result<()> {
    let out = sums.parent().context("sums lie beside the archive")?;
    let status = Command::new("sha256sum").args(["--check", "--quiet"]).arg(sums).current_dir(out).status()?;
    ensure!(status.success(), "sha256sum: {status}");
    fs::create_dir_all(directory)?;
    let options = ["--strip-components=1", "-xzf"].map(std::ffi::OsStr::new);
    tool("tar", &[options[0], options[1], archive.as_os_str(), "-C".as_ref(), directory.as_os_str()])?;
    for file in ["LICENSE", "README.md", "man/dimsum.1", "man/dimsum-run.1", "completions/_dimsum"] {
        ensure!(directory.join(file).metadata()?.len() > 0, "{file} is empty");
    }
    let said = tool(&directory.join("dimsum").to_string_lossy(), &["--version"])?;
    ensure!(said.trim().ends_with(version), "the program says that it is {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn the_commands_of_a_help_text_are_found() {
        let help = "Usage: dimsum\n\nCommands:\n  run      Run it\n           and more\n  mount    Mount it\n\nOptions:\n  -v\n";
        assert_eq!(commands(help), ["run", "mount"]);
    }
}
