//! The detail of a failure, for assertions.

use std::error::Error;

use dimsum_source::SourceError;

/// Returns the detail of a failure if it is an `F`; none for a success.
///
/// `matches!(fault(&read), Some(SourceFault::NotFound { .. }))` takes the type from the pattern.
#[must_use]
pub fn fault<T, F: Error + 'static>(result: &Result<T, SourceError>) -> Option<&F> {
    result.as_ref().err().and_then(SourceError::detail)
}
