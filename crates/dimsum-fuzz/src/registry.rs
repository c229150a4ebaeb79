//! What comes from users and from archives.

use dimsum_registry::{Members, Reference};

/// An archive of images: no panic; members lie inside it, do not overlap, and their names lead nowhere else.
///
/// # Panics
/// If an invariant breaks.
pub fn archive(data: &[u8]) {
    let Ok(members) = Members::parse("fuzz", data) else { return };
    let mut ranges: Vec<_> = members
        .files()
        .map(|(name, range)| {
            assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")), "{name:?} leads elsewhere");
            assert_eq!(members.file_or_link(name), Some(range.clone()), "{name:?} is found by its name");
            range
        })
        .collect();
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in ranges {
        assert!(end <= range.start && range.start <= range.end && range.end <= data.len() as u64, "{range:?}");
        end = range.end;
    }
}

/// What a user writes to name an image: no panic; what is accepted is written as something that means the same.
///
/// # Panics
/// If an invariant breaks.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(parsed) = Reference::parse(text) else { return };
    let written = parsed.to_string();
    let again = Reference::parse(&written);
    assert_eq!(again.ok(), Some(parsed), "{text:?} is written as {written:?}");
}
