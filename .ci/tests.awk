# Reads what `cargo test -- --show-output` prints. Shows it without what passed tests printed, and writes a line for each
# test that says "skipped: REASON" to the file `skips`.

/^successes:$/ { hidden = 1 }
/^failures:$/ || /^test result: / { hidden = 0 }
hidden && /^---- .* stdout ----$/ { name = $2 }
hidden && sub(/^skipped: (needs )?/, "") { print name ": " $0 >> skips }
!hidden { print; fflush() }
