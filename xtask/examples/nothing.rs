//! Does nothing. An example among what is built gives dependencies the features that tests give them, so that they are
//! not built twice: see `SOME_EXAMPLE` in xtask.

fn main() {}
