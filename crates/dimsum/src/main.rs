//! The command line of Dimsum.

fn main() {}
