//! What a `WWW-Authenticate` header asks for (RFC 9110, section 11.6.1), and what a token is for.

use std::collections::BTreeMap;

/// Challenges of one answer that are looked at; real ones have one or two.
const MAX_CHALLENGES: usize = 8;
/// Longest header that is parsed: realms and scopes are short.
const MAX_HEADER: usize = 8 << 10;

/// A way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from the server at `realm`.
    Bearer {
        /// The token server's address.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow.
        scope: Scopes,
    },
}

impl Challenge {
    /// Returns it without what only one request needed.
    pub(super) fn for_all(self) -> Self {
        match self {
            Self::Basic => Self::Basic,
            Self::Bearer { realm, service, .. } => Self::Bearer { realm, service, scope: Scopes::default() },
        }
    }
}

/// What a token allows: actions by resource (`repository:library/redis` → `pull`, `push`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Scopes(BTreeMap<String, Vec<String>>);

impl Scopes {
    /// Returns `repository:PATH:ACTIONS`.
    pub(super) fn repository(path: &str, actions: &[&str]) -> Self {
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{path}"), actions)]))
    }

    fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for each in text.split(' ').filter(|each| !each.is_empty()) {
            // What has another form than type:name:actions is passed on as it came.
            let (resource, actions) = each.rsplit_once(':').unwrap_or((each, ""));
            scopes.add(resource, actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
        }
        scopes
    }

    /// Returns what allows both.
    pub(super) fn with(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.add(resource, actions.iter().cloned());
        }
        self
    }

    /// Returns the parameters `scope=…` of a token request.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| match actions.is_empty() {
            true => resource.clone(),
            false => format!("{resource}:{}", actions.join(",")),
        })
    }

    fn add(&mut self, resource: &str, actions: impl Iterator<Item = String>) {
        let has = self.0.entry(resource.to_owned()).or_default();
        has.extend(actions);
        has.sort_unstable();
        has.dedup();
    }
}

/// Parses one header, which may hold several challenges. What is not understood is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > MAX_HEADER {
        return Vec::new();
    }
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for item in split_items(header) {
        let name = item.split('=').next().unwrap_or_default().trim();
        match (name.split_once(' '), item.split_once('=')) {
            // `Scheme key=value`: a new challenge with its first parameter.
            (Some((scheme, key)), Some((_, value))) => {
                found.push((scheme.to_ascii_lowercase(), BTreeMap::from([(lower(key), unquote(value))])));
            }
            (None, Some((key, value))) => {
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.insert(lower(key), unquote(value));
                }
            }
            (_, None) => found.push((name.to_ascii_lowercase(), BTreeMap::new())),
        }
    }
    found.into_iter().take(MAX_CHALLENGES).filter_map(challenge).collect()
}

fn challenge((scheme, mut parameters): (String, BTreeMap<String, String>)) -> Option<Challenge> {
    match &*scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope").map(|scope| Scopes::parse(&scope)).unwrap_or_default(),
        }),
        _ => None,
    }
}

/// Splits at commas outside quotes.
fn split_items(header: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let at_comma = move |letter: char| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    header.split(at_comma).map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn lower(key: &str) -> String {
    key.trim().to_ascii_lowercase()
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut letters = inner.chars();
    let mut text = String::with_capacity(inner.len());
    while let Some(letter) = letters.next() {
        text.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let parsed = parse(
            r#"Bearer realm="https://a.b/token?x=1,2",service="a \"b\"",scope="repository:c/d:pull,push registry:catalog:*", Basic realm="x", Negotiate"#,
        );
        let scope = Scopes::repository("c/d", &["pull", "push"]).with(&Scopes::parse("registry:catalog:*"));
        let bearer =
            Challenge::Bearer { realm: "https://a.b/token?x=1,2".into(), service: Some("a \"b\"".into()), scope };
        assert_eq!(parsed, [bearer, Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(parse("Basic realm=unquoted"), [Challenge::Basic]);
    }

    #[test]
    fn what_is_no_challenge_is_left_out() {
        for text in ["", ",", "=", "Bearer", "Bearer service=x", "\"", "Digest a=b, c=d", "a=b", &"Basic,".repeat(9000)]
        {
            assert_eq!(parse(text), [], "{text:.20}");
        }
        assert_eq!(parse(&"Basic,".repeat(99)).len(), MAX_CHALLENGES);
    }

    #[test]
    fn scopes_of_one_resource_are_joined() {
        let scopes = Scopes::parse("repository:a:pull").with(&Scopes::repository("a", &["push", "pull"]));
        assert_eq!(scopes.texts().collect::<Vec<_>>(), ["repository:a:pull,push"]);
        assert_eq!(Scopes::parse("aws").texts().collect::<Vec<_>>(), ["aws"]);
    }
}
