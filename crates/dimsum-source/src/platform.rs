//! The platform of this machine, in the words of the OCI specification (which are Go's).

use dimsum_format::manifest::Platform;

/// Returns `linux` and the architecture that this program was compiled for.
#[must_use]
pub fn host_platform() -> Platform {
    Platform { architecture: architecture().to_owned(), os: "linux".to_owned(), variant: None, os_version: None }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        same => same,
    }
}

/// Parses `os/architecture[/variant]`, as `--platform` takes it; `None` if it is not in this form.
#[must_use]
pub fn parse_platform(text: &str) -> Option<Platform> {
    let mut parts = text.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
    let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
    let platform = Platform { architecture, os, variant, os_version: None };
    (parts.next().is_none() && self::text(&platform) == text).then_some(platform)
}

/// Says whether an image for `offered` runs on `wanted`. A variant counts only where one is wanted.
#[must_use]
pub fn fits(offered: &Platform, wanted: &Platform) -> bool {
    offered.os == wanted.os
        && offered.architecture == wanted.architecture
        && (wanted.variant.is_none() || offered.variant == wanted.variant)
}

/// Returns a platform as `--platform` takes it.
#[must_use]
pub fn text(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}
