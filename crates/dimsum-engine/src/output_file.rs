//! Results that go into a file: its name stands for the whole of them or for the file before.
//!
//! They are written beside it, synced, and renamed. A pipe, a terminal or `/dev/null` cannot be replaced and is written to as
//! it is.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::EngineError;

/// Writes a file as a whole. Nothing of it stays if `write` fails. `action` says in errors what is done to the file.
///
/// # Errors
/// The error of `write`, or [`EngineError::Io`] if the file cannot be written.
pub fn write_whole<T, E: From<EngineError>>(
    action: &'static str,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let failed = |source| E::from(EngineError::io(action, path, source));
    // Through a link: it is the file behind it that is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(&path).map_err(failed)?);
        let written = write(&mut out)?;
        out.flush().map_err(failed)?;
        return Ok(written);
    }
    // The rest is up to the umask.
    let directory = directory(&path);
    let beside =
        tempfile::Builder::new().prefix(".dimsum-").permissions(Permissions::from_mode(0o666)).tempfile_in(directory);
    let mut out = BufWriter::new(beside.map_err(failed)?);
    let written = write(&mut out)?;
    let beside = out.into_inner().map_err(io::IntoInnerError::into_error).map_err(failed)?;
    beside.as_file().sync_all().map_err(failed)?;
    beside.persist(&path).map_err(|error| failed(error.error))?;
    Ok(written)
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_there_stays_if_the_new_one_does_not_come_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let put = |text: &str, fail: bool| {
            write_whole("write", &path, |out| {
                out.write_all(text.as_bytes()).unwrap();
                if fail { Err(EngineError::Platforms { count: 2 }) } else { Ok(()) }
            })
        };
        put("first", true).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        put("first", false).unwrap();
        put("second", true).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        put("second", false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o600, 0o600);
        let null = Path::new("/dev/null");
        write_whole("write", null, |out| out.write_all(b"x").map_err(|source| EngineError::io("write", null, source)))
            .unwrap();
        assert!(!fs::metadata(null).unwrap().is_file(), "it is written to, not replaced");
    }
}
