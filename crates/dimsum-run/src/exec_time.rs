//! When the container's command was about to start, as a hook of the runtime notes it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File of a run's directory where the hook notes the time.
pub(crate) const EXEC_TIME: &str = "exec-time";

/// Writes the time now to a file. The program that a request names as its hook does this.
///
/// # Errors
/// If it cannot be written.
pub fn note_exec_time(file: &Path) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    fs::write(file, now.as_nanos().to_string())
}

/// Returns the time that a file holds; none if it holds no time.
pub(crate) fn noted_exec_time(file: &Path) -> Option<SystemTime> {
    let nanoseconds: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_noted_by_another_process_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("time");
        assert_eq!(noted_exec_time(&file), None);
        let before = SystemTime::now();
        note_exec_time(&file).unwrap();
        let noted = noted_exec_time(&file).unwrap();
        assert!(before <= noted && noted <= SystemTime::now());
        fs::write(&file, "not a number").unwrap();
        assert_eq!(noted_exec_time(&file), None);
    }
}
