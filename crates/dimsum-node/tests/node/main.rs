//! Images through the whole of keeper, server and client. Keeper and server of these tests are this program again.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests, outside of any test function"
)]

mod fills;
mod hung;
mod keepers;
mod life;
mod opens;
mod requests;
mod restart;
mod same_tree;
mod support;

/// Not a test but the keeper process; without the arguments of one it does nothing.
#[test]
fn keeper_process() {
    support::keeper();
}

/// Not a test but a keeper process of version 1.
#[test]
fn keeper_of_version_1() {
    support::keeper_of_version_1();
}

/// Not a test but the server process.
#[test]
fn server_process() {
    support::server();
}
