//! What comes from users, archives and registries.

use std::cell::Cell;

use dimsum_layout::{Members, add_schemes};
use dimsum_registry::REGISTRY;
use dimsum_registry::fuzz::{self, Asked};
use dimsum_source::{Schemes, parse_image_name};
use serde_json::Value;

/// Whose credentials are looked for in auth files.
const REPOSITORY: &str = "h.io:5000/a/b";
/// A shorter secret may stand in a message by chance.
const LONG_SECRET: usize = 16;
/// Challenges of one header that count: the parser's limit, stated again.
const MAX_CHALLENGES: usize = 8;

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
    let mut schemes = Schemes::default();
    schemes.add_default(REGISTRY);
    add_schemes(&mut schemes);
    let Ok(parsed) = schemes.parse(text) else { return };
    let written = parsed.to_string();
    let again = schemes.parse(&written);
    assert_eq!(again.ok(), Some(parsed), "{text:?} is written as {written:?}");
}

/// What a registry asks for: no panic, few challenges, no text that the header has not; what is understood is understood again.
///
/// # Panics
/// If an invariant breaks.
pub fn challenge(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else { return };
    let asked = fuzz::challenge(header);
    assert!(asked.len() <= MAX_CHALLENGES);
    for each in &asked {
        if let Asked::Bearer { realm, service, scopes } = each {
            assert!(realm.len() + service.as_ref().map_or(0, String::len) <= header.len());
            assert!(scopes.iter().all(|scope| !scope.contains(' ')), "{scopes:?}");
        }
    }
    let written: Vec<_> = asked.iter().map(write).collect();
    let written = written.join(", ");
    // Quotes double what they quote, and a header has a longest length.
    if written.len() <= header.len() {
        let (once, again) = (asked.iter().map(identity), fuzz::challenge(&written));
        assert!(once.eq(again.iter().map(identity)), "{header:?} is written as {written:?}");
    }
}

/// What must not change when a challenge is written and parsed.
fn identity(asked: &Asked) -> Option<(&str, Option<&str>)> {
    match asked {
        Asked::Basic => None,
        Asked::Bearer { realm, service, .. } => Some((realm, service.as_deref())),
    }
}

fn write(asked: &Asked) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match asked {
        Asked::Basic => "Basic".to_owned(),
        Asked::Bearer { realm, service: None, .. } => format!("Bearer realm={}", quote(realm)),
        Asked::Bearer { realm, service: Some(service), .. } => {
            format!("Bearer realm={},service={}", quote(realm), quote(service))
        }
    }
}

/// An auth file: no panic; credentials come from a key of this registry, helpers are asked for nothing else, and an error shows no secret.
///
/// # Panics
/// If an invariant breaks.
pub fn auth_file(data: &[u8]) {
    let (repository, _) = parse_image_name(REPOSITORY).expect("the reference is written above");
    let host = repository.host();
    let asked = Cell::new(0_u32);
    let found = fuzz::auth_file(data, &repository, |_, key| {
        assert!(key.contains(host), "a helper is asked for {key:?}");
        asked.set(asked.get() + 1);
    });
    // A second parser, which knows nothing of the form; it refuses some of what the first skips.
    let Ok(file) = serde_json::from_slice::<Value>(data) else { return };
    // A list of the fields in order is taken for an object, too.
    let auths = || file.get("auths").or_else(|| file.get(0)).and_then(Value::as_object).into_iter().flatten();
    match found {
        Ok(Some(_)) => assert!(auths().any(|(key, _)| key.contains(host)), "credentials of another registry"),
        Ok(None) => {}
        Err(error) => {
            let error = error.to_string();
            let secrets = auths().flat_map(|(_, entry)| entry.as_object().into_iter().flatten());
            for secret in secrets.filter_map(|(_, secret)| secret.as_str()).filter(|text| text.len() >= LONG_SECRET) {
                assert!(auths().any(|(key, _)| key.contains(secret)) || !error.contains(secret), "{error}");
            }
        }
    }
}

/// Reads the place of a part of a blob from a header. Nothing panics, a part is not empty and lies inside the blob, and
/// the text means one thing.
///
/// # Panics
/// If an invariant breaks.
pub fn content_range(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else { return };
    let Some((bytes, total)) = fuzz::content_range(header) else { return };
    assert!(bytes.start < bytes.end, "{bytes:?}");
    assert!(total.is_none_or(|total| bytes.end <= total), "{bytes:?} of {total:?}");
    let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let written = format!("bytes {}-{}/{total_text}", bytes.start, bytes.end - 1);
    assert_eq!(fuzz::content_range(&written), Some((bytes, total)), "{header:?} is written as {written:?}");
}
