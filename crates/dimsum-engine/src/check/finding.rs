//! What a check found.

use serde::Serialize;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The blob or file.
    pub object: String,
    /// Where in it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Findings that are listed; the rest is only counted.
const MAX_FINDINGS: usize = 1000;

/// What was found so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// The first of them.
    pub listed: Vec<Finding>,
    /// All of them.
    pub count: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, object: impl Into<String>, offset: Option<u64>, what: impl ToString) {
        self.count = self.count.saturating_add(1);
        if self.listed.len() < MAX_FINDINGS {
            self.listed.push(Finding { object: object.into(), offset, what: what.to_string() });
        }
    }
}
