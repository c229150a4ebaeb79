//! What the user can do next.

use std::error::Error as StdError;
use std::io;

use dimsum_engine::check::AgainstError;
use dimsum_engine::container::RunError;
use dimsum_engine::{EngineError, EntryFault, ErrorKind, RegistryFault, SourceError, SourceFault, TlsProblem};

use super::Error;

impl Error {
    /// Returns what the user can do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let special = match self {
            Self::Usage { hint, .. } => Some(*hint),
            Self::Grammar { .. } => Some("`dimsum --help` and `dimsum COMMAND --help` tell what there is"),
            Self::Engine(error) => engine_hint(error),
            Self::Findings { .. } => {
                Some("convert it again, or copy it again from where it was right; a store mends itself when it is read")
            }
            Self::Node { source, .. } => match &**source {
                dimsum_node::Error::Busy { .. } => {
                    Some("end those who use it, or take it away at once and for good with --lazy")
                }
                dimsum_node::Error::NotStarted { .. } => Some("`dimsum serve` shows in the foreground what goes wrong"),
                _ => None,
            },
            Self::Server(failure) => server_hint(failure.kind),
            Self::Fill { .. } => Some("try again when its registry answers; what has come is kept"),
            Self::Run { source, .. } => run_hint(source),
            _ => None,
        };
        special.or_else(|| full_hint(self)).or_else(|| match (self, self.kind()) {
            // An ordinary image, which `check` does not take.
            (Self::Engine(EngineError::Convert { action: "convert", .. }), ErrorKind::Integrity) => {
                Some("get the source again from where it is right; `skopeo copy` and `dimsum copy` check it on the way")
            }
            (_, ErrorKind::Integrity) => Some(
                "`dimsum check IMAGE --data` names all that is damaged in the source, `--store` in this node's copy",
            ),
            (Self::Engine(EngineError::Store { .. } | EngineError::Io { .. }) | Self::Io { .. }, ErrorKind::Denied) => {
                Some("give a store that this user may write: --store DIR or DIMSUM_STORE")
            }
            (Self::Engine(EngineError::Convert { .. }), ErrorKind::NotFound) => {
                Some("see that it is there under this name")
            }
            (Self::Engine(EngineError::Source { .. } | EngineError::Copy { .. }), ErrorKind::NotFound) => {
                Some("see that it is there under this name: tags and platforms can be listed with `skopeo inspect`")
            }
            _ => None,
        })
    }
}

fn engine_hint(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::FileTree { .. } => Some("`dimsum convert dir:PATH oci:DIR:TAG` makes an image of it"),
        EngineError::Tag { .. } => Some("name it by @sha256:… as `dimsum inspect` or `skopeo inspect` shows it"),
        EngineError::SamePlace { .. } => Some("give the target another name"),
        EngineError::Platforms { .. } => Some("give --platform once"),
        EngineError::Path { .. } => Some("`dimsum ls IMAGE` lists what the image has"),
        EngineError::NotInStore { .. } => {
            Some("`dimsum store fill IMAGE` brings it there; --store=DIR names another store")
        }
        EngineError::Name { source, .. }
        | EngineError::Source { source, .. }
        | EngineError::Target { source, .. }
        | EngineError::Copy { source, .. } => source_hint(source),
        EngineError::Convert { source, .. } => convert_hint(source),
        EngineError::Run { source, .. } => run_hint(source),
        EngineError::Ordinary { .. } => Some(
            "`dimsum convert SOURCE oci:DIR:TAG` makes one; `dimsum check IMAGE --store` checks what the store has of it",
        ),
        EngineError::Against { source, .. } => match **source {
            AgainstError::IsDimsum => Some("compare with the ordinary image or the directory that it was made from"),
            AgainstError::NoLayers => Some("name an image with files"),
            _ => None,
        },
        _ => None,
    }
}

fn convert_hint(error: &dimsum_engine::ConvertError) -> Option<&'static str> {
    use dimsum_engine::ConvertError as E;
    match error {
        E::Registry(source) => source_hint(source),
        E::Sharing { source, .. } => convert_hint(source).or_else(|| match source.kind() {
            ErrorKind::NotFound => Some("see that it is there under this name, or leave it out"),
            ErrorKind::Integrity => {
                Some("`dimsum check IMAGE --data` names all that is damaged in it; or leave it out")
            }
            _ => None,
        }),
        E::Content { source, .. } => convert_hint(source),
        E::AlreadyDimsum { .. } => Some("run, mount or copy it as it is"),
        E::NotDimsum { .. } => Some("`dimsum convert` makes a Dimsum image of it, with which can be shared"),
        E::Temporary { source, .. } if !is_full(source) => {
            Some("name a directory that this user may write, and that is on a disk, with TMPDIR")
        }
        E::Tree { source: dimsum_engine::TreeError::Entry { fault, .. }, .. } => entry_hint(fault),
        error if is_unpacking(error) => Some(
            "the layer's blob is damaged, or not what its media type says: get the source again from where it is right",
        ),
        _ => None,
    }
}

/// What to do when a disk is full, whoever met that.
fn full_hint(error: &Error) -> Option<&'static str> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        let met = cause.downcast_ref::<io::Error>();
        if met.is_some_and(is_full) {
            return Some(
                "make room there, or take another disk: TMPDIR for temporary files, --store for what a node keeps",
            );
        }
        // What an input or output error was made of is left out of its `source`.
        let made_of = met.and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
        next = made_of.or_else(|| cause.source());
    }
    None
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What to do about a source or target: mostly a registry's answer.
fn source_hint(error: &SourceError) -> Option<&'static str> {
    if let Some(fault) = error.detail() {
        return registry_hint(fault);
    }
    match error.detail()? {
        SourceFault::Reference { .. } => {
            Some("name an image as [HOST/]REPO[:TAG], oci:DIR[:TAG] or oci-archive:FILE, a directory tree as dir:PATH")
        }
        SourceFault::Referrers { .. } => Some(
            "delete that tag if nobody needs it, or leave referrers out: convert without --keep-original, copy --referrers none",
        ),
        SourceFault::Deadline { .. } => Some(NOT_NOW),
        _ => None,
    }
}

/// For a registry that may answer later.
const NOT_NOW: &str = "try again when the registry answers; what has been fetched is kept";

fn registry_hint(fault: &RegistryFault) -> Option<&'static str> {
    use TlsProblem as P;
    Some(match fault {
        RegistryFault::AuthNeeded { .. } => {
            "log in with `skopeo login HOST` (or docker, podman), or name a file of credentials with --authfile"
        }
        RegistryFault::AuthDenied { with_credentials: true, .. } => {
            "log in as a user who may: `skopeo login HOST`; some registries say this of repositories that do not exist"
        }
        RegistryFault::AuthDenied { .. } => {
            "log in with `skopeo login HOST`, or see that the repository exists: some registries do not tell"
        }
        RegistryFault::Credentials { .. } => "mend the file or the credential helper, or name another with --authfile",
        RegistryFault::Tls { problem: P::NotSpoken, .. } => "if this registry has no TLS, say so with --plain-http",
        RegistryFault::Tls { problem: P::UnknownIssuer, .. } => {
            "give the authority's certificate with --ca-file, or put it into /etc/containers/certs.d/HOST/ca.crt"
        }
        RegistryFault::Tls { problem: P::WrongName, .. } => "use the name that the certificate is for",
        RegistryFault::Tls { problem: P::OutOfTime, .. } => {
            "see that the clock is right, else its certificate has to be renewed"
        }
        RegistryFault::Tls { problem: P::ClientCertificate, .. } => {
            "put client certificate and key into /etc/containers/certs.d/HOST/client.{cert,key}, or name a --cert-dir"
        }
        RegistryFault::UnknownHost { .. } => {
            "see that the name is right; names without a host are taken from docker.io"
        }
        RegistryFault::Unreachable { .. } | RegistryFault::Broken { .. } => NOT_NOW,
        RegistryFault::Status { status: 403 | 405, .. } => {
            "see that this registry takes pushes: it may be read-only, a mirror or a cache"
        }
        RegistryFault::Status { status: 429, .. } => "wait, or log in: registries allow more to those whom they know",
        _ => return None,
    })
}

/// What to do about a failure of which the server told the kind.
const fn server_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Denied => {
            Some("log in with `skopeo login HOST` (or docker, podman), or name a file of credentials with --authfile")
        }
        ErrorKind::NotFound => {
            Some("see that it is there under this name: tags and platforms can be listed with `skopeo inspect`")
        }
        ErrorKind::Unavailable => Some("try again when the registry answers; what has been fetched is kept"),
        ErrorKind::Busy => Some("try again later"),
        _ => None,
    }
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

/// What to do about an entry of a source that is refused, or a file of an image that cannot be made.
const fn entry_hint(fault: &EntryFault) -> Option<&'static str> {
    match fault {
        EntryFault::DeviceZero | EntryFault::OverlayXattr { .. } => {
            Some("leave such entries out with `dimsum convert --overlay-entries drop`")
        }
        EntryFault::Owner { .. } => Some("run it as root, or let all files belong to you with --own"),
        EntryFault::NotEmpty => Some("name a directory that is empty or not there"),
        _ => None,
    }
}

/// Whether a layer could not be unpacked.
fn is_unpacking(error: &dimsum_engine::ConvertError) -> bool {
    let dimsum_engine::ConvertError::Tree { source: dimsum_engine::TreeError::Read { source, .. }, .. } = error else {
        return false;
    };
    matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}
