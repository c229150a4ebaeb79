//! What the user can do next.

use dimsum_registry::SourceError;

use super::{Error, Kind};
use crate::run::RunError;

impl Error {
    /// Returns what the user can do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let special = match self {
            Self::Usage { hint, .. } => Some(*hint),
            Self::Grammar { .. } => Some("`dimsum --help` and `dimsum COMMAND --help` tell what there is"),
            Self::Path { .. } => Some("`dimsum ls IMAGE` lists what the image has"),
            Self::Findings { .. } => {
                Some("convert it again, or copy it again from where it was right; a store mends itself when it is read")
            }
            Self::Source { source, .. } | Self::Target { source, .. } | Self::Copy { source, .. } => {
                source_hint(source.innermost())
            }
            Self::Convert { source, .. } => match &**source {
                dimsum_convert::Error::Registry(source) => source_hint(source.innermost()),
                dimsum_convert::Error::AlreadyDimsum { .. } => Some("run, mount or copy it as it is"),
                error if is_overlay_entry(error) => {
                    Some("leave such entries out with `dimsum convert --overlay-entries drop`")
                }
                _ => None,
            },
            Self::Node { source, .. } => match &**source {
                dimsum_node::Error::Busy { .. } => {
                    Some("end those who use it, or take it away at once and for good with --lazy")
                }
                dimsum_node::Error::NotStarted { .. } => Some("`dimsum serve` shows in the foreground what goes wrong"),
                _ => None,
            },
            Self::Fill { .. } => Some("try again when its registry answers; what has come is kept"),
            Self::Run { source, .. } => run_hint(source),
            _ => None,
        };
        special.or_else(|| match (self, self.kind()) {
            (_, Kind::Integrity) => Some(
                "`dimsum check IMAGE --data` names all that is damaged in the source, `--store` in this node's copy",
            ),
            (Self::Store { .. } | Self::Io { .. }, Kind::Permission) => {
                Some("give a store that this user may write: --store DIR or DIMSUM_STORE")
            }
            (Self::Source { .. } | Self::Copy { .. }, Kind::NotFound) => {
                Some("see that it is there under this name: tags and platforms can be listed with `skopeo inspect`")
            }
            _ => None,
        })
    }
}

/// What to do about a source or target: mostly a registry's answer.
fn source_hint(error: &SourceError) -> Option<&'static str> {
    use dimsum_registry::TlsProblem as P;
    Some(match error {
        SourceError::Reference { .. } => {
            "name an image as [HOST/]REPO[:TAG], oci:DIR[:TAG] or oci-archive:FILE, a directory tree as dir:PATH"
        }
        SourceError::AuthNeeded { .. } => {
            "log in with `skopeo login HOST` (or docker, podman), or name a file of credentials with --authfile"
        }
        SourceError::AuthDenied { with_credentials: true, .. } => {
            "log in as a user who may: `skopeo login HOST`; some registries say this of repositories that do not exist"
        }
        SourceError::AuthDenied { .. } => {
            "log in with `skopeo login HOST`, or see that the repository exists: some registries do not tell"
        }
        SourceError::Credentials { .. } => "mend the file or the credential helper, or name another with --authfile",
        SourceError::Tls { problem: P::NotSpoken, .. } => "if this registry has no TLS, say so with --plain-http",
        SourceError::Tls { problem: P::UnknownIssuer, .. } => {
            "give the authority's certificate with --ca-file, or put it into /etc/containers/certs.d/HOST/ca.crt"
        }
        SourceError::Tls { problem: P::WrongName, .. } => "use the name that the certificate is for",
        SourceError::Tls { problem: P::OutOfTime, .. } => {
            "see that the clock is right, else its certificate has to be renewed"
        }
        SourceError::Tls { problem: P::ClientCertificate, .. } => {
            "put client certificate and key into /etc/containers/certs.d/HOST/client.{cert,key}, or name a --cert-dir"
        }
        SourceError::UnknownHost { .. } => "see that the name is right; names without a host are taken from docker.io",
        SourceError::Unreachable { .. } | SourceError::Broken { .. } | SourceError::Deadline { .. } => {
            "try again when the registry answers; what has been fetched is kept"
        }
        SourceError::Status { status: 429, .. } => "wait, or log in: registries allow more to those whom they know",
        _ => return None,
    })
}

fn run_hint(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::NoCommand => Some("give a command behind the image"),
        RunError::NoAccount { .. } => Some("give numbers, as in --user 1000:1000, or an account that the image has"),
        RunError::Runtime { .. } => Some("install runc (on Debian: apt-get install runc) and see that it is in PATH"),
        RunError::Privileges { .. } => Some("run it as root; `dimsum ls` and `dimsum cat` work for every user"),
        RunError::Mount { .. } => {
            Some("keep the store on a file system that overlayfs can write to, such as ext4 or xfs: --store DIR")
        }
        _ => None,
    }
}

fn is_overlay_entry(error: &dimsum_convert::Error) -> bool {
    use dimsum_tree::{Error as TreeError, Fault};
    let dimsum_convert::Error::Tree { source, .. } = error else { return false };
    matches!(source, TreeError::Entry { fault: Fault::DeviceZero | Fault::OverlayXattr { .. }, .. })
}
