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
            Self::Source { source, .. } | Self::Target { source, .. } => match &**source {
                SourceError::Reference { .. } => Some("name an image as oci:DIR[:TAG], a directory tree as dir:PATH"),
                _ => None,
            },
            Self::Convert { source, .. } => match &**source {
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
            (Self::Source { .. }, Kind::NotFound) => Some("see that the layout is there and has this tag"),
            _ => None,
        })
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

fn is_overlay_entry(error: &dimsum_convert::Error) -> bool {
    use dimsum_tree::{Error as TreeError, Fault};
    let dimsum_convert::Error::Tree { source, .. } = error else { return false };
    matches!(source, TreeError::Entry { fault: Fault::DeviceZero | Fault::OverlayXattr { .. }, .. })
}
