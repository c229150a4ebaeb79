# Reads what `cargo test -- --show-output` prints. Shows it without what passed tests printed, and writes a line for each
# test that says "skipped: REASON" to the file `skips`.

/^successes:$/ { hidden = 1 }
/^failures:$/ || /^test result: / { hidden = 0 }
hidden && /^---- .* stdout ----$/ { name = $2 }
hidden && /^skipped: / { print name ": " substr($0, 10) >> skips }
!hidden { print; fflush() }
