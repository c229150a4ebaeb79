//! From what HTTP and TLS libraries say to what we say, and whether trying again helps.

use std::error::Error;
use std::io;

use dimsum_source::SourceError;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::fault::{RegistryFault, TlsProblem};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: SourceError,
    pub(super) retry: Retry,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Nothing: it would fail again.
    No,
    /// Try again, after a pause.
    Yes,
    /// Try again, after the seconds that the registry wished.
    After(u32),
}

impl Failure {
    /// A failure that stays one.
    pub(super) const fn fatal(error: SourceError) -> Self {
        Self { error, retry: Retry::No }
    }

    /// A failure that may go away.
    pub(super) const fn passing(error: SourceError) -> Self {
        Self { error, retry: Retry::Yes }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        // A name that is not known now is not known a second later; whoever asked may ask again after minutes.
        let soon = error.is_passing() && !matches!(error.detail(), Some(RegistryFault::UnknownHost { .. }));
        let retry = if soon { Retry::Yes } else { Retry::No };
        Self { error, retry }
    }
}

/// Translates an error of a request to `host`.
pub(super) fn translate(host: &str, what: &str, error: reqwest::Error) -> SourceError {
    // The address may hold the secrets of an object store.
    let error = error.without_url();
    let (host, what, reason) = (host.to_owned(), what.to_owned(), innermost(&error));
    if let Some(tls) = find::<TlsError>(&error) {
        return RegistryFault::Tls { problem: problem(tls), reason: tls.to_string() }.at(host);
    }
    if error.is_builder() {
        return RegistryFault::Tls { problem: TlsProblem::OwnFiles, reason }.at(host);
    }
    if error.is_connect() && error.is_timeout() {
        return RegistryFault::Unreachable { reason: "no connection in time".to_owned() }.at(host);
    }
    if is_unknown_name(&error) {
        return RegistryFault::UnknownHost { reason }.at(host);
    }
    if error.is_connect() {
        return RegistryFault::Unreachable { reason }.at(host);
    }
    RegistryFault::Broken { what, reason }.at(host)
}

/// Says whether an attempt at TLS met something that does not speak it.
pub(super) fn speaks_no_tls(error: &SourceError) -> bool {
    matches!(error.detail(), Some(RegistryFault::Tls { problem: TlsProblem::NotSpoken, .. }))
}

fn problem(error: &TlsError) -> TlsProblem {
    match error {
        TlsError::InvalidMessage(_) => TlsProblem::NotSpoken,
        TlsError::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsProblem::OutOfTime,
            _ => TlsProblem::Other,
        },
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => TlsProblem::ClientCertificate,
        _ => TlsProblem::Other,
    }
}

/// Returns the last error of the chain, which says what happened; those before it say where.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = below(last) {
        last = next;
    }
    last.to_string()
}

fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        at = below(error);
    }
    None
}

/// Goes one down. An [`io::Error`] leaves the error that it was made of out of its `source`.
fn below<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    made_of.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
}

fn is_unknown_name(error: &reqwest::Error) -> bool {
    error.is_dns()
}
