//! The scheme of registries: `docker://[HOST/]REPO[:TAG][@DIGEST]`, with docker's defaults.

use dimsum_source::{Reference, Scheme, parse_image_name};

/// An image in a registry. A process registers it as the default, for names without a scheme.
pub const REGISTRY: Scheme = Scheme { name: "docker", usage: "docker://[HOST/]REPO[:TAG]", parse };

fn parse(rest: &str) -> Result<Reference, std::borrow::Cow<'static, str>> {
    let parsed = match rest.strip_prefix("//") {
        Some(name) => parse_image_name(name),
        // An image that is called docker: `docker:27`.
        None => parse_image_name(&format!("docker:{rest}")),
    };
    let (repository, name) = parsed?;
    Ok(Reference::in_registry(REGISTRY.name, repository, name))
}

#[cfg(test)]
mod tests {
    use dimsum_format::Digest;
    use dimsum_source::{ImageName, Repository, Schemes, SourceError};

    use super::*;

    fn parse(text: &str) -> Result<Reference, SourceError> {
        let mut schemes = Schemes::default();
        schemes.add_default(REGISTRY);
        schemes.parse(text)
    }

    #[test]
    fn names_without_a_scheme_are_dockers() {
        let tag = |tag: &str| ImageName::Tag(tag.into());
        let digest = Digest::of(b"manifest");
        for (text, repository, name) in [
            ("redis", "docker.io/library/redis", tag("latest")),
            ("redis:7", "docker.io/library/redis", tag("7")),
            ("a/b", "docker.io/a/b", tag("latest")),
            ("index.docker.io/a/b:c", "docker.io/a/b", tag("c")),
            ("localhost/b", "localhost/b", tag("latest")),
            ("docker://127.0.0.1:5000/a/b-c__d:V_1.x", "127.0.0.1:5000/a/b-c__d", tag("V_1.x")),
            ("h.io/x", "h.io/x", tag("latest")),
            (&*format!("h.io/x:y@{digest}"), "h.io/x", ImageName::Digest(digest)),
            ("docker:27", "docker.io/library/docker", tag("27")),
        ] {
            let must = Reference::in_registry("docker", Repository::parse(repository).unwrap(), name);
            let parsed = parse(text).unwrap();
            assert_eq!(parsed, must, "{text}");
            assert_eq!(parsed.repository().unwrap().to_string(), repository, "{text}");
            assert_eq!(parse(&parsed.to_string()).unwrap(), must, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        for text in [
            "",
            "/a/b",
            "docker://",
            "docker://X/Y",
            "ftp://x/y",
            "./images",
            "Redis",
            "a//b",
            "a/b-",
            "redis:7@sha256:12",
            "redis:",
            "redis:a/b:-c",
            "host:port:5000/x",
            "host:/x",
            "h.io:port/x",
        ] {
            let parsed = parse(text);
            assert!(parsed.is_err(), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn the_scheme_of_another_tool_is_named_and_not_looked_for_in_a_registry() {
        for text in ["docker-daemon:app:latest", "containers-storage:localhost/app", "ftp://h.io/x"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("is not known; there is docker://[HOST/]REPO[:TAG]"), "{error}");
        }
    }
}
