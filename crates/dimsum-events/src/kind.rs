//! The table of event types.
//!
//! A type's name and the meaning of its fields never change; a change of meaning is a new version of the type.

use serde::{Serialize, Serializer};

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventSeverity {
    /// Nothing to do.
    Info,
    /// Something was wrong and has been mended.
    Warning,
    /// Something does not work; no reader got wrong bytes or an error.
    Error,
    /// Wrong bytes were found, or a reader got an error.
    Critical,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal v $version:literal $severity:ident, $text:literal;)*) => {
        /// The type of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// All types, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns the type's name without its version, for example `chunk.damaged`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Returns the type's full name as it stands in an event, for example `dev.dimsum.chunk.damaged.v1`.
            #[must_use]
            pub const fn full_name(self) -> &'static str {
                match self { $(Self::$kind => concat!("dev.dimsum.", $name, ".v", $version),)* }
            }

            /// Returns how bad it is.
            #[must_use]
            pub const fn severity(self) -> EventSeverity {
                match self { $(Self::$kind => EventSeverity::$severity,)* }
            }

            /// Returns the words that open its line in a text log.
            #[must_use]
            pub const fn headline(self) -> &'static str {
                match self { $(Self::$kind => $text,)* }
            }
        }
    };
}

kinds! {
    /// Bytes of the store do not match their digest.
    ChunkDamaged = "chunk.damaged" v 1 Critical, "damaged";
    /// Damaged bytes of the store were fetched again and written.
    ChunkRepaired = "chunk.repaired" v 1 Warning, "repaired";
    /// A reader got `EIO`.
    ReadFailed = "read.failed" v 1 Critical, "EIO";
    /// A source gave wrong bytes.
    SourceLied = "source.lied" v 1 Critical, "wrong bytes from a source";
    /// A source gave no bytes, or none in time.
    SourceFailed = "source.failed" v 1 Warning, "a source failed";
    /// A file of the store cannot be written; the bytes that were read are not kept.
    StoreWriteFailed = "store.write-failed" v 1 Error, "cannot write";
    /// A record of a conversion does not verify; it counts as absent.
    RecordRefused = "record.refused" v 1 Error, "record refused";
    /// An image was mounted.
    MountStarted = "mount.started" v 1 Info, "mounted";
    /// The image of a mount cannot be opened: every read gets `EIO` until it can.
    MountBroken = "mount.broken" v 1 Error, "EIO until the image can be opened";
    /// The image of such a mount could be opened.
    MountReopened = "mount.reopened" v 1 Info, "the image is open again";
    /// A mount was released.
    MountEnded = "mount.ended" v 1 Info, "released";
    /// A fill ended without having brought everything.
    FillFailed = "fill.failed" v 1 Error, "the fill stopped";
    /// A fill brought everything.
    FillEnded = "fill.ended" v 1 Info, "the fill is complete";
    /// A server answers clients.
    ServerStarted = "server.started" v 1 Info, "the server answers";
    /// A server took mounts over.
    ServerTookOver = "server.took-over" v 1 Info, "mounts were taken over";
    /// A server ends.
    ServerEnded = "server.ended" v 1 Info, "the server ends";
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.full_name())
    }
}
