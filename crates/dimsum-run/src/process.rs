//! From the image's config and the user's wishes to the process: command line, environment, directory, signal.

use rustix::process::Signal;

use crate::RunError;
use crate::config::ProcessConfig;

/// Where commands are looked for if the image does not say; what other container tools use.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the user asked for beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The command line behind the entrypoint; empty takes the image's.
    pub command: Vec<String>,
    /// Another entrypoint; an empty text means none at all.
    pub entrypoint: Option<String>,
    /// `NAME=VALUE` each; they win over the image's.
    pub env: Vec<String>,
    /// Another working directory.
    pub workdir: Option<String>,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// Returns the command line.
///
/// # Errors
/// If neither the image nor the user names a command.
pub fn command_line(config: &ProcessConfig, overrides: &Overrides) -> Result<Vec<String>, RunError> {
    let (mut words, cmd) = match overrides.entrypoint.as_deref() {
        // An entrypoint of the user's does not know the image's words.
        Some(entrypoint) => (Vec::from_iter((!entrypoint.is_empty()).then(|| entrypoint.to_owned())), &[][..]),
        None => (config.entrypoint.clone(), config.cmd.as_slice()),
    };
    let behind = if overrides.command.is_empty() { cmd } else { overrides.command.as_slice() };
    words.extend_from_slice(behind);
    if words.first().is_none_or(String::is_empty) {
        return Err(RunError::NoCommand);
    }
    Ok(words)
}

/// Returns the environment: the image's, what is missing for a sane start, then the user's; each name once.
#[must_use]
pub fn environment(config: &ProcessConfig, overrides: &Overrides, home: &str) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut defaults = vec![format!("PATH={DEFAULT_PATH}"), format!("HOME={home}")];
    if overrides.terminal {
        defaults.push("TERM=xterm".to_owned());
    }
    for variable in defaults.iter().chain(&config.env).chain(&overrides.env) {
        match env.iter_mut().find(|known| name(known) == name(variable)) {
            Some(known) => known.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    env
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// Returns the working directory, absolute.
#[must_use]
pub fn working_directory(config: &ProcessConfig, overrides: &Overrides) -> String {
    let wanted = overrides.workdir.as_deref().unwrap_or(&config.working_dir);
    if wanted.starts_with('/') { wanted.to_owned() } else { format!("/{wanted}") }
}

/// Returns the signal that asks the process to end; `TERM` if the image does not say or says nonsense.
#[must_use]
pub fn stop_signal(config: &ProcessConfig) -> Signal {
    let text = config.stop_signal.trim();
    let named = text.strip_prefix("SIG").unwrap_or(text);
    let number = named.parse().ok().or_else(|| SIGNALS.iter().find(|row| row.0 == named).map(|row| row.1.as_raw()));
    number.and_then(Signal::from_named_raw).unwrap_or(Signal::TERM)
}

/// Signals an image may name. Real-time signals are not among them: nothing forwards them.
const SIGNALS: &[(&str, Signal)] = &[
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("TERM", Signal::TERM),
    ("WINCH", Signal::WINCH),
    ("PWR", Signal::POWER),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ProcessConfig {
        ProcessConfig {
            entrypoint: vec!["/entry".into(), "-x".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/bin".into(), "A=1".into(), "B=2".into(), "A=3".into()],
            ..ProcessConfig::default()
        }
    }

    fn line(overrides: &Overrides) -> String {
        command_line(&image(), overrides).unwrap().join(" ")
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_other_tools() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let command = words(&["sh", "-c"]);
        assert_eq!(line(&Overrides::default()), "/entry -x serve");
        assert_eq!(line(&Overrides { command: command.clone(), ..Overrides::default() }), "/entry -x sh -c");
        assert_eq!(line(&Overrides { entrypoint: Some("/other".into()), ..Overrides::default() }), "/other");
        let both = Overrides { command, entrypoint: Some(String::new()), ..Overrides::default() };
        assert_eq!(line(&both), "sh -c");
    }

    #[test]
    fn a_container_without_a_command_is_refused() {
        let none = Overrides { entrypoint: Some(String::new()), ..Overrides::default() };
        assert!(matches!(command_line(&image(), &none), Err(RunError::NoCommand)));
        assert!(command_line(&ProcessConfig::default(), &Overrides::default()).is_err());
    }

    #[test]
    fn the_environment_has_each_name_once_and_the_users_word_last() {
        let overrides = Overrides { env: vec!["B=user".into()], terminal: true, ..Overrides::default() };
        let env = environment(&image(), &overrides, "/root");
        assert_eq!(env, ["PATH=/bin", "HOME=/root", "TERM=xterm", "A=3", "B=user"]);
        let bare = environment(&ProcessConfig::default(), &Overrides::default(), "/");
        assert_eq!(bare, [format!("PATH={DEFAULT_PATH}"), "HOME=/".to_owned()]);
    }

    #[test]
    fn the_working_directory_is_absolute() {
        let config = ProcessConfig { working_dir: "app".into(), ..ProcessConfig::default() };
        assert_eq!(working_directory(&config, &Overrides::default()), "/app");
        assert_eq!(working_directory(&ProcessConfig::default(), &Overrides::default()), "/");
        let other = Overrides { workdir: Some("/srv".into()), ..Overrides::default() };
        assert_eq!(working_directory(&config, &other), "/srv");
    }

    #[test]
    fn stop_signals_are_names_or_numbers() {
        for (text, signal) in [
            ("SIGQUIT", Signal::QUIT),
            ("USR1", Signal::USR1),
            ("3", Signal::QUIT),
            ("", Signal::TERM),
            ("SIGNONSENSE", Signal::TERM),
            ("-9", Signal::TERM),
        ] {
            let config = ProcessConfig { stop_signal: text.into(), ..ProcessConfig::default() };
            assert_eq!(stop_signal(&config), signal, "{text}");
        }
    }
}
