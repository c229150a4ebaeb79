//! Failures that only registries have. They are the detail of a [`SourceError`], so callers elsewhere know kinds alone.

use std::fmt;

use dimsum_source::{ErrorKind, SourceError};

/// The failure of a request to a registry. The registry, host or file stands in the [`SourceError`] around it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryFault {
    /// The registry wants credentials, and there are none for it.
    #[error("authentication required for {repository} and no credentials found{detail}")]
    AuthNeeded {
        /// The repository.
        repository: String,
        /// The registry's own words.
        detail: Box<RegistryMessage>,
    },
    /// The registry does not let these credentials (or nobody) do this.
    #[error("no permission to {action} {repository}{detail}")]
    AuthDenied {
        /// The repository.
        repository: String,
        /// The attempt: `pull` or `push to`.
        action: &'static str,
        /// Whether there were credentials.
        with_credentials: bool,
        /// The registry's own words.
        detail: Box<RegistryMessage>,
    },
    /// Credentials that cannot be had: a malformed file, a helper that fails, a place they must not be sent to.
    #[error("cannot use the credentials of {place}: {reason}")]
    Credentials {
        /// The file, the helper program, or the token server.
        place: String,
        /// The fault.
        reason: String,
    },
    /// A secure connection that cannot be trusted, or not be made at all.
    #[error("TLS: {reason}")]
    Tls {
        /// The fault, as far as hints differ for it.
        problem: TlsProblem,
        /// The fault in detail.
        reason: String,
    },
    /// A host that has no address.
    #[error("cannot resolve the name of the host: {reason}")]
    UnknownHost {
        /// The resolver's word.
        reason: String,
    },
    /// A host that does not answer.
    #[error("cannot connect: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// A refusal by the registry, or by a host that it redirected to.
    #[error("{what}: status {status}{detail}")]
    Status {
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        detail: Box<RegistryMessage>,
    },
    /// An answer that breaks the protocol, so that nothing of it can be used.
    #[error("{what}: {reason}")]
    Answer {
        /// The request.
        what: String,
        /// The fault of the answer.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{what}: redirect to {to}: {reason}")]
    Redirect {
        /// The request.
        what: String,
        /// Where to: only scheme and host, since addresses of object stores hold secrets.
        to: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// A connection that broke more often than we go on.
    #[error("{what}: the connection broke: {reason}")]
    Broken {
        /// The request.
        what: String,
        /// How it broke.
        reason: String,
    },
}

impl RegistryFault {
    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::AuthNeeded { .. } | Self::AuthDenied { .. } | Self::Credentials { .. } => ErrorKind::Denied,
            Self::Status { status: 401 | 403, .. } => ErrorKind::Denied,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Answer { .. } | Self::Redirect { .. } => ErrorKind::Malformed,
            // A name is not known either without a network.
            Self::UnknownHost { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Status { .. }
            | Self::Tls { .. } => ErrorKind::Unavailable,
        }
    }

    /// Says whether the same request may succeed later, with nothing changed on this side.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::UnknownHost { .. } | Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => is_passing_status(*status),
            _ => false,
        }
    }

    /// Returns why a user has to act, if there is something to do about it.
    #[must_use]
    pub const fn reason(&self) -> Option<RegistryReason> {
        Some(match self {
            Self::AuthNeeded { .. } => RegistryReason::AuthNeeded,
            Self::AuthDenied { with_credentials: true, .. } => RegistryReason::AuthDenied,
            Self::AuthDenied { .. } => RegistryReason::AnonymousDenied,
            Self::Credentials { .. } => RegistryReason::Credentials,
            Self::Tls { problem, .. } => match problem {
                TlsProblem::NotSpoken => RegistryReason::TlsNotSpoken,
                TlsProblem::UnknownIssuer => RegistryReason::TlsUnknownIssuer,
                TlsProblem::WrongName => RegistryReason::TlsWrongName,
                TlsProblem::OutOfTime => RegistryReason::TlsOutOfTime,
                TlsProblem::ClientCertificate => RegistryReason::TlsClientCertificate,
                TlsProblem::OwnFiles => RegistryReason::TlsOwnFiles,
                _ => return None,
            },
            Self::UnknownHost { .. } => RegistryReason::UnknownHost,
            Self::Unreachable { .. } | Self::Broken { .. } => RegistryReason::NoAnswer,
            Self::Status { status: 403 | 405, .. } => RegistryReason::NotAllowed,
            Self::Status { status: 429, .. } => RegistryReason::TooManyRequests,
            _ => return None,
        })
    }

    /// Names the registry, host or file.
    #[must_use]
    pub fn at(self, object: impl Into<String>) -> SourceError {
        let is_passing = self.is_passing();
        SourceError::new(self.kind(), object, self).with_passing(is_passing)
    }
}

/// Why a request failed, as far as a user can do something about it. Finer than [`ErrorKind`]: next steps differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryReason {
    /// Credentials are needed, and there are none.
    AuthNeeded,
    /// These credentials may not do it.
    AuthDenied,
    /// Nobody may do it without credentials, or the object does not exist.
    AnonymousDenied,
    /// Credentials cannot be used: a malformed file, a helper that fails.
    Credentials,
    /// The host speaks no TLS.
    TlsNotSpoken,
    /// No trusted authority signed the certificate.
    TlsUnknownIssuer,
    /// The certificate is for another name.
    TlsWrongName,
    /// The certificate is outside its time.
    TlsOutOfTime,
    /// The host wants a client certificate.
    TlsClientCertificate,
    /// Certificates of ours cannot be used: a missing or malformed file.
    TlsOwnFiles,
    /// The host has no address.
    UnknownHost,
    /// The host does not answer, or breaks connections.
    NoAnswer,
    /// The registry does not allow this operation.
    NotAllowed,
    /// The registry limits requests.
    TooManyRequests,
}

impl RegistryReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::AuthNeeded,
        Self::AuthDenied,
        Self::AnonymousDenied,
        Self::Credentials,
        Self::TlsNotSpoken,
        Self::TlsUnknownIssuer,
        Self::TlsWrongName,
        Self::TlsOutOfTime,
        Self::TlsClientCertificate,
        Self::TlsOwnFiles,
        Self::UnknownHost,
        Self::NoAnswer,
        Self::NotAllowed,
        Self::TooManyRequests,
    ];

    /// Returns the name of the reason: lower-case ASCII, the same for ever. Wire protocols carry it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthNeeded => "auth-needed",
            Self::AuthDenied => "auth-denied",
            Self::AnonymousDenied => "anonymous-denied",
            Self::Credentials => "credentials",
            Self::TlsNotSpoken => "tls-not-spoken",
            Self::TlsUnknownIssuer => "tls-unknown-issuer",
            Self::TlsWrongName => "tls-wrong-name",
            Self::TlsOutOfTime => "tls-out-of-time",
            Self::TlsClientCertificate => "tls-client-certificate",
            Self::TlsOwnFiles => "tls-own-files",
            Self::UnknownHost => "unknown-host",
            Self::NoAnswer => "no-answer",
            Self::NotAllowed => "not-allowed",
            Self::TooManyRequests => "too-many-requests",
        }
    }

    /// Returns the reason of a [`name`](Self::name); none if it is not known here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// Says whether an HTTP status may be another one later: 429, and those of servers that are overloaded or in trouble.
/// 501 and its like do not change.
pub(crate) const fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The words of a registry about an error: code and message of the distribution specification, of bounded length and
/// without control characters. Of a plain text it is the first line. Empty if the body had another form, such as HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryMessage {
    /// For example `DENIED`, `TOOMANYREQUESTS`, `MANIFEST_UNKNOWN`; may be empty.
    pub code: String,
    /// In words; may be empty.
    pub message: String,
}

impl fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.code, &*self.message) {
            ("", "") => Ok(()),
            (code, "") => write!(f, " ({code})"),
            ("", message) => write!(f, " ({message})"),
            (code, message) => write!(f, " ({code}: {message})"),
        }
    }
}

/// A fault of TLS, as far as there is something to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The host speaks something else, most often plain HTTP.
    NotSpoken,
    /// No authority that we trust signed its certificate.
    UnknownIssuer,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is outside its time: it has expired, or a clock is wrong.
    OutOfTime,
    /// It wants a certificate of ours, or refuses the one that it got.
    ClientCertificate,
    /// Certificates of ours that cannot be used.
    OwnFiles,
    /// Something else.
    Other,
}
