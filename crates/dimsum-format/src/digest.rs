//! Digests as types: a text is parsed once, and no two kinds can be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The algorithm before the colon is not the one wanted.
    #[error("digest {text:?} does not start with {prefix:?}")]
    Algorithm {
        /// The text.
        text: String,
        /// The prefix that it must have.
        prefix: &'static str,
    },
    /// Not 64 lower-case hex digits.
    #[error("digest {text:?} does not have 64 lower-case hexadecimal digits")]
    Hex {
        /// The text.
        text: String,
    },
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 bytes of a digest.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the 64 hexadecimal digits without the algorithm, as used in file names.
            #[must_use]
            pub fn hex(&self) -> String {
                let mut text = String::with_capacity(64);
                for byte in self.0 {
                    for nibble in [byte >> 4, byte & 15] {
                        text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                    }
                }
                text
            }

            /// Parses 64 lower-case hexadecimal digits.
            ///
            /// # Errors
            /// If `text` is anything else.
            pub fn from_hex(text: &str) -> Result<Self, DigestError> {
                parse_hex(text).map(Self).ok_or_else(|| DigestError::Hex { text: shorten(text) })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                match text.strip_prefix($prefix) {
                    Some(hex) => Self::from_hex(hex),
                    None => Err(DigestError::Algorithm { text: shorten(text), prefix: $prefix }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type! {
    /// The SHA-256 digest of an OCI blob, manifest or layer (`sha256:…`).
    Digest, "sha256:"
}
digest_type! {
    /// A BLAKE3 digest of bytes (`blake3:…`).
    Blake3, "blake3:"
}
digest_type! {
    /// The name of a device: BLAKE3 of its device map.
    DeviceId, "blake3:"
}
digest_type! {
    /// The root of trust of an image: BLAKE3 of its uncompressed meta.
    MetaRoot, "blake3:"
}

impl Digest {
    /// Hashes bytes that are in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl Blake3 {
    /// Hashes bytes that are in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<MetaRoot> for Blake3 {
    fn from(root: MetaRoot) -> Self {
        Self(root.0)
    }
}

impl From<DeviceId> for Blake3 {
    fn from(id: DeviceId) -> Self {
        Self(id.0)
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = (hex_value(high)? << 4) | hex_value(low)?;
    }
    Some(bytes)
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Cuts a text from outside so that an error message stays readable.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"dimsum");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
    }

    #[test]
    fn other_algorithms_cases_and_lengths_are_refused() {
        let hex = Digest::of(b"").hex();
        for text in [
            format!("sha512:{hex}"),
            hex.clone(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            "sha256:".into(),
            String::new(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
