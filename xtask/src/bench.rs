use std::path::Path;

pub fn run(_what: &str, _directory: &Path, _out: &Path) -> anyhow::Result<()> {
    anyhow::bail!("see the next commit")
}
