//! The first part of an extended attribute's name is a number on disk.

/// The parts that have a number. ACLs are whole names: nothing may follow. Behind the others something has to.
const PREFIXES: [(u8, &[u8], bool); 5] = [
    (1, b"user.", false),
    (2, b"system.posix_acl_access", true),
    (3, b"system.posix_acl_default", true),
    (4, b"trusted.", false),
    (6, b"security.", false),
];

/// Splits a full name into number and rest; `None` if no number fits.
pub(crate) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix, whole)| {
        let rest = name.strip_prefix(prefix)?;
        (whole == rest.is_empty()).then_some((index, rest))
    })
}

/// Returns the first part that a number stands for, and whether it is the whole name.
pub(crate) fn of(index: u8) -> Option<(&'static [u8], bool)> {
    PREFIXES.iter().find_map(|&(number, prefix, whole)| (number == index).then_some((prefix, whole)))
}

/// Says whether overlayfs keeps an attribute of this name for itself.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Marks a directory of a layer that hides the directories below; the value is [`OPAQUE_VALUE`].
pub(crate) const OPAQUE_NAME: &[u8] = b"trusted.overlay.opaque";
/// See [`OPAQUE_NAME`].
pub(crate) const OPAQUE_VALUE: &[u8] = b"y";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_comes_back_and_unknown_names_have_none() {
        for name in [
            &b"user.a"[..],
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"trusted.x.y",
            b"security.capability",
        ] {
            let (index, rest) = split(name).expect("known");
            let (prefix, whole) = of(index).expect("known");
            assert_eq!([prefix, rest].concat(), name);
            assert!(!whole || rest.is_empty());
        }
        for name in [&b"system.posix_acl_access2"[..], b"system.nfs4_acl", b"lustre.lov", b"user", b"user.", b""] {
            assert_eq!(split(name), None);
        }
        assert_eq!(of(0), None);
        assert_eq!(of(5), None);
    }
}
