//! What the user can do next.

use std::error::Error as StdError;
use std::io;

use dimsum_engine::check::AgainstError;
use dimsum_engine::container::RunError;
use dimsum_engine::{EngineError, EntryFault, ErrorKind, RegistryFault, RegistryReason, SourceError, SourceFault};
use dimsum_node::ServerFailure;

use super::Error;

impl Error {
    /// Returns what the user can do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let special = match self {
            Self::Usage { hint, .. } => Some(*hint),
            Self::Grammar { .. } => Some("`dimsum --help` and `dimsum COMMAND --help` list commands and options"),
            Self::Engine(error) => engine_hint(error),
            Self::Findings { .. } => Some(
                "run `dimsum convert` again, or copy the image from an intact source; a store repairs itself when read",
            ),
            Self::Node { source, .. } => match &**source {
                dimsum_node::Error::Busy { .. } => {
                    Some("end the processes that use the mount, or detach it at once with --lazy")
                }
                dimsum_node::Error::NotStarted { .. } => {
                    Some("`dimsum serve` runs the same server in the foreground and shows its error")
                }
                _ => None,
            },
            Self::Server(failure) => server_hint(failure),
            Self::Fill { .. } => {
                full_hint(self).or(Some("try again when the registry answers; what was fetched is kept"))
            }
            Self::Run { source, .. } => run_hint(source),
            _ => None,
        };
        special.or_else(|| full_hint(self)).or_else(|| match (self, self.kind()) {
            // An ordinary image, which `check` does not take.
            (Self::Engine(EngineError::Convert { action: "convert", .. }), ErrorKind::Integrity) => {
                Some("get the source again from an intact place; `skopeo copy` and `dimsum copy` check it on the way")
            }
            (_, ErrorKind::Integrity) => {
                Some("`dimsum check IMAGE --data` lists the damage in the source, `--store` in this node's copy")
            }
            (Self::Engine(EngineError::Store { action: "open node key", .. }), ErrorKind::Denied) => {
                Some("make the key readable for its owner only, or name another with DIMSUM_NODE_KEY")
            }
            (Self::Engine(EngineError::Store { .. } | EngineError::Io { .. }) | Self::Io { .. }, ErrorKind::Denied) => {
                Some("name a store that this user may write to, with --store DIR or DIMSUM_STORE")
            }
            (Self::Engine(EngineError::Convert { .. }), ErrorKind::NotFound) => {
                Some("check the name: the image is not there")
            }
            (Self::Engine(EngineError::Source { .. } | EngineError::Copy { .. }), ErrorKind::NotFound) => {
                Some(missing_hint(&self.object()))
            }
            _ => None,
        })
    }
}

fn engine_hint(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::FileTree { .. } => Some("`dimsum convert dir:PATH oci:DIR:TAG` makes an image of it"),
        EngineError::Tag { .. } => {
            Some("name the image by @sha256:…, as `dimsum inspect` or `skopeo inspect` shows it")
        }
        EngineError::SamePlace { .. } => Some("give the target another name"),
        EngineError::Platforms { .. } => Some("give --platform once"),
        EngineError::Path { .. } => Some("`dimsum ls IMAGE` lists the files of the image"),
        EngineError::NotInStore { .. } => Some("`dimsum store fill IMAGE` fetches it; --store=DIR names another store"),
        EngineError::Source { source, .. } => source_hint(source, Some(READ_LATER)),
        EngineError::Name { source, .. } | EngineError::Target { source, .. } | EngineError::Copy { source, .. } => {
            source_hint(source, None)
        }
        EngineError::Convert { source, .. } => convert_hint(source),
        EngineError::Run { source, .. } => run_hint(source),
        EngineError::Ordinary { .. } => Some(
            "`dimsum convert SOURCE oci:DIR:TAG` makes one; `dimsum check IMAGE --store` checks the image in the store",
        ),
        EngineError::Against { source, .. } => match **source {
            AgainstError::IsDimsum => Some("compare with the ordinary image or the directory from which it was made"),
            AgainstError::NoLayers => Some("name an image with files"),
            _ => None,
        },
        _ => None,
    }
}

fn convert_hint(error: &dimsum_engine::ConvertError) -> Option<&'static str> {
    use dimsum_engine::ConvertError as E;
    match error {
        E::Registry(source) => source_hint(source, None),
        E::Sharing { source, .. } => convert_hint(source).or_else(|| match source.kind() {
            ErrorKind::NotFound => Some("check the name, or leave the image out"),
            ErrorKind::Integrity => Some("`dimsum check IMAGE --data` lists its damage; or leave the image out"),
            _ => None,
        }),
        E::Content { source, .. } => convert_hint(source),
        E::AlreadyDimsum { .. } => Some("run, mount or copy the image as it is"),
        E::NotDimsum { .. } => Some("`dimsum convert` makes a Dimsum image of it, and the two can share"),
        E::Temporary { source, .. } if !is_full(source) => {
            Some("name a directory that this user may write, and that is on a disk, with TMPDIR")
        }
        E::Tree { source: dimsum_engine::TreeError::Entry { fault, .. }, .. } => entry_hint(fault),
        error if is_unpacking(error) => Some(
            "the blob of the layer is damaged, or has a false media type: get the source again from an intact place",
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
            return Some("make room there, or use another disk: TMPDIR for temporary files, --store for the store");
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

/// Returns the next step for a source or target: mostly about a registry's answer. `later` is the step for a registry
/// that does not answer now.
fn source_hint(error: &SourceError, later: Option<&'static str>) -> Option<&'static str> {
    let later = later.unwrap_or(LATER);
    if let Some(fault) = error.detail::<RegistryFault>() {
        return registry_hint(fault.reason()?, later);
    }
    match error.detail()? {
        SourceFault::Reference { .. } => {
            Some("name an image as [HOST/]REPO[:TAG], oci:DIR[:TAG] or oci-archive:FILE, a directory tree as dir:PATH")
        }
        SourceFault::Referrers { .. } => {
            Some("delete that tag if it is not needed, or leave referrers out: no --keep-original, or --referrers none")
        }
        SourceFault::Deadline { .. } => Some(later),
        _ => None,
    }
}

/// For a registry that may answer later.
const LATER: &str = "try again when the registry answers";
/// The same, where the store or a partial blob keeps the bytes that came.
const READ_LATER: &str = "try again when the registry answers; what was fetched is kept";

const fn registry_hint(reason: RegistryReason, later: &'static str) -> Option<&'static str> {
    use RegistryReason as R;
    Some(match reason {
        R::AuthNeeded => {
            "log in with `skopeo login HOST` (or docker, podman), or name a file of credentials with --authfile"
        }
        R::AuthDenied => {
            "log in as a user with that permission: `skopeo login HOST`; some answer so for unknown repositories"
        }
        R::AnonymousDenied => {
            "log in with `skopeo login HOST`, or check the name of the repository: some registries do not tell"
        }
        R::Credentials => "correct the file or the credential helper, or name another file with --authfile",
        R::TlsNotSpoken => "add --plain-http if this registry has no TLS",
        R::TlsUnknownIssuer => {
            "give the authority's certificate with --ca-file, or put it into /etc/containers/certs.d/HOST/ca.crt"
        }
        R::TlsWrongName => "use the name that the certificate is for",
        R::TlsOutOfTime => "check the clock of this machine; else the certificate of the host must be renewed",
        R::TlsClientCertificate => {
            "put client certificate and key into /etc/containers/certs.d/HOST/client.{cert,key}, or name a --cert-dir"
        }
        R::TlsOwnFiles => "check the files that --ca-file and --cert-dir name",
        R::UnknownHost => "check the name of the host; names without a host mean docker.io",
        R::NoAnswer => later,
        R::NotAllowed => "check that this registry takes pushes: it may be read-only, a mirror or a cache",
        R::TooManyRequests => "wait, or log in: registries allow more requests to users that they know",
        _ => return None,
    })
}

/// What to do about an image that is not there. A layout or an archive lists its names in the error.
fn missing_hint(image: &str) -> &'static str {
    let is_file = ["oci:", "oci-archive:", "docker-archive:", "dir:"].iter().any(|scheme| image.starts_with(scheme));
    if is_file {
        "check the path and the name behind it"
    } else {
        "check the name: `skopeo list-tags docker://HOST/REPO` lists the tags of a repository"
    }
}

/// What to do about a failure that the server told.
fn server_hint(failure: &ServerFailure) -> Option<&'static str> {
    if let Some(reason) = failure.reason {
        return registry_hint(reason, READ_LATER);
    }
    match failure.kind {
        ErrorKind::NotFound => Some(missing_hint(&failure.object)),
        ErrorKind::Unavailable => Some(READ_LATER),
        ErrorKind::Busy => Some("try again later"),
        _ => None,
    }
}

fn run_hint(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::NoCommand => Some("add a command after the image"),
        RunError::NoAccount { .. } => Some("use numbers, as in --user 1000:1000, or an account that the image has"),
        RunError::Runtime { .. } => Some("install runc (on Debian: apt-get install runc) and check that it is in PATH"),
        RunError::Privileges { .. } => {
            Some("run the command as root; `dimsum ls` and `dimsum cat` work for every user")
        }
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
        EntryFault::Owner { .. } => Some("run the command as root, or make all files your own with --own"),
        EntryFault::NotEmpty => Some("name a directory that is empty or does not exist"),
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
