//! Credential helpers: programs `docker-credential-NAME` that keep passwords in a key ring or get them from a cloud.
//!
//! `get` is told the server on its standard input and answers JSON. No shell is involved. It gets a time, and its output a
//! limit; one that does not end is killed, with its children.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dimsum_source::SourceError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Deserialize;

use super::credentials::{Credentials, password};
use crate::fault::RegistryFault;

/// Largest output: user and token with room.
const MAX_OUTPUT: u64 = 64 << 10;
/// What a helper says when it has nothing, besides failing.
const NOTHING: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks `docker-credential-NAME` for what it keeps for `server`, blocking; `None` if it has nothing.
///
/// # Errors
/// If there is no such program, or it fails or takes too long.
pub(super) fn get(
    name: &str,
    server: &str,
    registry: &str,
    patience: Duration,
) -> Result<Option<Credentials>, SourceError> {
    let program = format!("docker-credential-{name}");
    let refuse = |reason: String| RegistryFault::Credentials { place: program.clone(), reason }.at(registry);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(refuse("the name of a helper has letters, digits, - _ and .".to_owned()));
    }
    understand(run(&program, server, patience)).map_err(refuse)
}

/// Makes sense of what a helper did.
fn understand(ran: io::Result<(bool, Vec<u8>)>) -> Result<Option<Credentials>, String> {
    let (succeeded, output) = ran.map_err(|error| error.to_string())?;
    if !succeeded {
        // Its words may be anything, a secret too; only the one that means "nothing" is understood.
        let nothing = String::from_utf8_lossy(&output).contains(NOTHING);
        return if nothing { Ok(None) } else { Err("it failed".to_owned()) };
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| "its answer has another form".to_owned())?;
    Ok((!answer.secret.is_empty()).then(|| password(answer.username, answer.secret)))
}

/// Runs a helper and returns whether it succeeded and what it wrote.
fn run(program: &str, server: &str, patience: Duration) -> io::Result<(bool, Vec<u8>)> {
    let until = Instant::now() + patience;
    let child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own: what it starts ends with it.
        .process_group(0)
        .spawn()?;
    let mut child = Guard(child);
    let (mut stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
    if let Some(stdin) = &mut stdin {
        // A server's name fits into the pipe, so this does not wait. A helper that reads nothing closes it.
        match stdin.write_all(server.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => drop(stdin.flush()),
        }
    }
    drop(stdin);
    let (give, take) = mpsc::channel();
    std::thread::Builder::new().name("dimsum-helper".to_owned()).spawn(move || {
        let mut output = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output));
        drop(give.send(read.map(|_| output)));
    })?;
    let too_late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let output = take.recv_timeout(until.saturating_duration_since(Instant::now())).map_err(|_| too_late())??;
    if output.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other("its answer is too long"));
    }
    child.wait_until(until)?;
    Ok((child.0.wait()?.success(), output))
}

/// A child that does not outlive us.
struct Guard(Child);

impl Guard {
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    /// Waits for its end, but does not reap it.
    fn wait_until(&self, until: Instant) -> io::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let left = until.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left))? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end")),
            _ => Ok(()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Only while it is not reaped is the number its own.
        if let (Ok(None), Some(pid)) = (self.0.try_wait(), self.pid()) {
            // Nothing can be done about a failure, and nothing depends on it.
            let _killed = kill_process_group(pid, Signal::KILL);
            drop(self.0.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn helper(script: &str) -> Result<Option<Credentials>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        understand(run(path.to_str().unwrap(), "h.io", Duration::from_secs(2)))
    }

    #[test]
    fn a_helper_is_told_the_server_and_gives_a_password_or_a_token() {
        let script =
            r#"test "$1" = get && test "$(cat)" = h.io && echo '{"ServerURL":"x","Username":"U","Secret":"s e"}'"#;
        let must = Credentials::Password { user: "U".into(), secret: "s e".into() };
        assert_eq!(helper(script), Ok(Some(must)));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(helper(token), Ok(Some(Credentials::Identity("t".into()))));
        assert_eq!(helper("echo credentials not found in native keychain; exit 1"), Ok(None));
    }

    #[test]
    fn a_helper_that_fails_hangs_or_talks_too_much_is_an_error_and_tells_no_secret() {
        for script in ["echo secret; exit 1", "echo secret", "sleep 1000", "exec >&-; sleep 1000", "yes secret"] {
            let error = helper(script).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(get("../x", "h.io", "h.io", Duration::ZERO).is_err());
    }
}
