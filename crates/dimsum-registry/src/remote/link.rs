//! `Link` headers (RFC 8288): where a list goes on.

/// Returns the target of the first link with the relation `next`, as it stands there: mostly a path.
///
/// ```text
/// Link: </v2/app/referrers/sha256:…?n=50&last=…>; rel="next", <…>; rel="prev"
/// ```
///
/// A header that is none of these gives nothing: then the list is at its end.
pub(super) fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, behind) = rest.split_once('<')?;
        let (target, behind) = behind.split_once('>')?;
        let end = end_of_parameters(behind);
        let (parameters, behind) = behind.split_at_checked(end)?;
        if parameters.split(';').any(is_next) {
            return Some(target);
        }
        rest = behind;
    }
}

/// Returns where the parameters of a link end: at the comma before the next one, which may stand inside of quotes too.
fn end_of_parameters(text: &str) -> usize {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether a parameter says that the relation is `next`; there may be several relations in one.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_however_the_header_is_written() {
        for header in [
            r#"</v2/a/referrers/x?last=1>; rel="next""#,
            r#"</v2/a/referrers/x?last=1>;rel=next"#,
            r#"</other>; rel="prev", </v2/a/referrers/x?last=1>; title="a, <b>"; Rel="last NEXT""#,
            r#"</other>, </v2/a/referrers/x?last=1> ; rel = next"#,
        ] {
            assert_eq!(next(header), Some("/v2/a/referrers/x?last=1"), "{header}");
        }
    }

    #[test]
    fn what_is_no_link_to_a_next_page_is_the_end() {
        for header in ["", "next", "</x>", r#"</x>; rel="prev""#, "</x; rel=next", r#"</x>; anchor="rel=next""#, "<"] {
            assert_eq!(next(header), None, "{header}");
        }
    }
}
