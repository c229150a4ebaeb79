//! A registry that answers in part: whatever fails there, what this node has is used.
#![expect(clippy::unwrap_used, reason = "tests panic")]

mod matrix;
mod node;
mod partial;
