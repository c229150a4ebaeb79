//! An error and its causes as text: the one place where a chain of [`Error::source`](std::error::Error::source) is written.

use std::error::Error;

/// Causes that are followed. Chains of this system have less than ten; a longer one is a circle.
const MAX_CAUSES: usize = 64;

/// Returns an error and its causes in one line, separated by `: `. A cause that the text ends with already is left out.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in chain(error) {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
    }
    text
}

/// Returns the texts of the causes of an error, outermost first. A cause whose text stands in that of its effect is left out.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        if !said.contains(&text) {
            causes.push(text.clone());
            said = text;
        }
    }
    causes
}

/// Iterates over the causes of an error, without the error itself.
fn chain(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
    .take(MAX_CAUSES)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Step {
        text: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    }

    fn step(text: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Step {
        Step { text, source: Some(source.into()) }
    }

    #[test]
    fn causes_follow_in_one_line_and_none_is_said_twice() {
        let error = step("cannot mount a", step("blob b: it broke", io::Error::other("it broke")));
        assert_eq!(with_causes(&error), "cannot mount a: blob b: it broke");
        assert_eq!(causes(&error), ["blob b: it broke"]);
    }
}
