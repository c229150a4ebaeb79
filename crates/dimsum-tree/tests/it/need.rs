//! What some tests need of the machine. Without it they say so and pass, but not where everything must run.

/// Returns whether the test can go on.
pub(crate) fn met(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{what} is needed");
        println!("skipped: {what} is needed");
    }
    there
}

/// Needs to be root of the machine.
pub(crate) fn root() -> bool {
    met("root", rustix::process::geteuid().is_root())
}
