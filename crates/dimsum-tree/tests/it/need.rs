//! What some tests need of the machine. Without it they are skipped, but not where everything must run.

/// Needs to be root of the machine.
pub(crate) fn root() -> bool {
    dimsum_testing::root_or_skip()
}
