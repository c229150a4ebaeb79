//! Texts that may hold names from images: shown so that they cannot steer a terminal.

use std::fmt;

/// A name from an image, as it is shown to a person: printable UTF-8 as it is, all else escaped.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a>(pub &'a [u8]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_plain(character) {
                    write!(f, "{character}")?;
                } else {
                    write!(f, "{}", character.escape_default())?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Text that may quote what comes from outside, in one line: what could steer a terminal is escaped. Unlike in a [`Name`], backslashes
/// stay, for names in it may have been escaped before.
#[derive(Debug, Clone, Copy)]
pub struct Tame<'a>(pub &'a str);

impl fmt::Display for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if is_visible(character) {
                write!(f, "{character}")?;
            } else {
                write!(f, "{}", character.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Whether a character of a name shows as itself, and nothing else shows like it.
fn is_plain(character: char) -> bool {
    character != '\\' && is_visible(character)
}

/// Whether a character cannot steer a terminal or turn text around.
#[must_use]
pub fn is_visible(character: char) -> bool {
    let invisible =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !character.is_control() && !invisible
}

/// Adds up what manifests and maps say. They may say anything: a sum that is too large stays at the largest number.
#[must_use]
pub fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// A number of bytes for people: `1.5 MiB`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

/// The exact bytes of a name in hexadecimal digits, where JSON cannot hold it because it is not UTF-8.
#[must_use]
pub fn hex_unless_utf8(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).is_err().then(|| name.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        let show = |name: &[u8]| Name(name).to_string();
        assert_eq!(show("grüße".as_bytes()), "grüße");
        assert_eq!(show(b"a\x1b[31mb\nc\xff\\"), "a\\u{1b}[31mb\\nc\\xff\\\\");
        assert_eq!(show("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(show("\u{9b}".as_bytes()), "\\u{9b}");
    }

    #[test]
    fn quoted_text_cannot_steer_a_terminal_and_is_not_escaped_twice() {
        assert_eq!(Tame("a\x1b[31m\n\u{9b}\u{202e}\\x1b ü").to_string(), "a\\u{1b}[31m\\n\\u{9b}\\u{202e}\\x1b ü");
    }

    #[test]
    fn sizes_have_one_unit() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 5 << 30].map(|size| Size(size).to_string()).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
    }
}
