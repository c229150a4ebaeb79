//! `--bind SRC:DST[:ro]`.

use std::str::FromStr;

/// A directory or file of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// Why a text is no bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Not two or three parts.
    #[error("a bind is SRC:DST or SRC:DST:ro")]
    Form,
    /// A path is relative.
    #[error("both paths of a bind are absolute")]
    Relative,
    /// The third part is not `ro` or `rw`.
    #[error("the third part of a bind is ro or rw")]
    Mode,
}

impl FromStr for Bind {
    type Err = BindError;

    fn from_str(text: &str) -> Result<Self, BindError> {
        let mut parts = text.split(':');
        let (Some(source), Some(destination)) = (parts.next(), parts.next()) else { return Err(BindError::Form) };
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err(BindError::Mode),
        };
        if parts.next().is_some() {
            return Err(BindError::Form);
        }
        if !source.starts_with('/') || !destination.starts_with('/') {
            return Err(BindError::Relative);
        }
        Ok(Self { source: source.to_owned(), destination: destination.to_owned(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_two_absolute_paths_and_a_mode() {
        let bind = Bind { source: "/a".into(), destination: "/b".into(), read_only: false };
        assert_eq!("/a:/b".parse(), Ok(bind.clone()));
        assert_eq!("/a:/b:rw".parse(), Ok(bind.clone()));
        assert_eq!("/a:/b:ro".parse(), Ok(Bind { read_only: true, ..bind }));
        for (text, error) in [
            ("/a", BindError::Form),
            ("/a:/b:ro:", BindError::Form),
            ("a:/b", BindError::Relative),
            ("/a:b", BindError::Relative),
            ("/a:/b:z", BindError::Mode),
        ] {
            assert_eq!(text.parse::<Bind>(), Err(error), "{text}");
        }
    }
}
