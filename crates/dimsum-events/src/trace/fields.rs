//! The fields of spans and records, and the line that is made of them.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use crate::log::{LogFormat, cut, push_plain};

/// The field that holds the text of a record.
const MESSAGE: &str = "message";

/// Fields in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct TraceFields(Vec<(&'static str, Value)>);

impl TraceFields {
    /// Adds a field, or replaces it.
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// Adds fields of somebody further inside; these win.
    pub(super) fn extend(&mut self, inner: &Self) {
        for (name, value) in &inner.0 {
            self.set(name, value.clone());
        }
    }

    /// Takes the text out.
    fn take_message(&mut self) -> String {
        let place = self.0.iter().position(|(name, _)| *name == MESSAGE);
        match place.map(|place| self.0.remove(place)) {
            Some((_, Value::String(text))) => text,
            _ => String::new(),
        }
    }
}

impl Visit for TraceFields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), cut(value).into());
    }

    /// Also takes what is given for display.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The form of lines: who writes them, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceForm {
    pub(super) process: &'static str,
    pub(super) format: LogFormat,
}

impl TraceForm {
    /// Makes the line of a record.
    pub(super) fn line(self, at: Timestamp, metadata: &Metadata<'_>, mut fields: TraceFields) -> String {
        let (message, level) = (fields.take_message(), level_name(*metadata.level()));
        let (pid, target) = (std::process::id(), short(metadata.target()));
        let mut line = match self.format {
            LogFormat::Text => {
                let mut text = format!("{level} {target}: {message}");
                for (name, value) in &fields.0 {
                    match value {
                        Value::String(value) => text.push_str(&format!(" {name}={value}")),
                        value => text.push_str(&format!(" {name}={value}")),
                    }
                }
                let mut line = format!("{at:.3} {}[{pid}]: ", self.process);
                push_plain(&mut line, &text);
                line
            }
            LogFormat::Json => {
                let mut object = Map::new();
                object.insert("time".to_owned(), format!("{at:.3}").into());
                object.insert("process".to_owned(), self.process.into());
                object.insert("pid".to_owned(), pid.into());
                object.insert("severity".to_owned(), level.into());
                object.insert("target".to_owned(), target.into());
                object.insert(MESSAGE.to_owned(), message.into());
                for (name, value) in fields.0 {
                    object.entry(name).or_insert(value);
                }
                Value::Object(object).to_string()
            }
        };
        line.push('\n');
        line
    }
}

/// The names that events have in the log, and two more.
const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The crate of a target, without the part that all have.
fn short(target: &str) -> &str {
    let name = target.split("::").next().unwrap_or(target);
    name.strip_prefix("dimsum_").unwrap_or(name)
}
