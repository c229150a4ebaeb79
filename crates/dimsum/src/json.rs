//! JSON whose characters are all visible.

use std::io::{self, Write};

use dimsum_engine::text::is_visible;
use serde::Serialize;
use serde_json::ser::Formatter;

/// Writes a value as JSON. Characters that could steer a terminal are escaped, which JSON does by itself for some of them only; a
/// program reads the same.
///
/// # Errors
/// What the writer says.
pub fn write_json(value: &(impl Serialize + ?Sized), out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Visible);
    Ok(value.serialize(&mut serializer)?)
}

/// Compact JSON in visible characters.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for piece in fragment.split_inclusive(|character| !is_visible(character)) {
            match piece.char_indices().next_back() {
                Some((at, character)) if !is_visible(character) => {
                    writer.write_all(piece.get(..at).unwrap_or_default().as_bytes())?;
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
                _ => writer.write_all(piece.as_bytes())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_visible_and_reads_back_as_it_was() {
        for text in ["", "plain", "\u{9b}2J", "a\u{202e}b\u{feff}\n\"\\", "\u{7f}\u{85}ü"] {
            let mut out = Vec::new();
            write_json(&[text, text], &mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert!(shown.chars().all(is_visible), "{shown:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text, text]);
        }
    }
}
