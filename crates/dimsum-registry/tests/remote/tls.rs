//! TLS with an authority of our own, client certificates, and what is said when they do not fit.

use std::fs;
use std::path::Path;

use dimsum_registry::{Access, RegistryFault, TlsProblem};
use dimsum_source::Reference;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::content::Image;
use crate::real::{Extra, Kind, Registry, network, parse};

/// Starts a registry that speaks TLS.
fn start(certificates: &Certificates, clients: bool) -> Option<Registry> {
    certificates.server("server");
    let file = |name| certificates.file(name).display().to_string();
    let (crt, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
    let clients = if clients { format!("    clientcas:\n      - {ca}\n") } else { String::new() };
    Kind::Debian.start_with(|_| Extra {
        http: format!("  tls:\n    certificate: {crt}\n    key: {key}\n{clients}"),
        ..Extra::default()
    })
}

/// Makes a directory of certificates for a host.
fn cert_dir(host: &str, files: &[(&str, &Path)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(host)).unwrap();
    for (name, file) in files {
        fs::copy(file, dir.path().join(host).join(name)).unwrap();
    }
    dir
}

fn problem(access: Access, reference: &Reference) -> TlsProblem {
    let root = network(access).open(reference).unwrap().root();
    match dimsum_testing::fault(&root) {
        Some(RegistryFault::Tls { problem, .. }) => *problem,
        _ => panic!("{root:?}"),
    }
}

#[test]
fn an_authority_of_our_own_is_trusted_when_it_is_named() {
    let Some(certificates) = Certificates::new() else { return };
    let Some(registry) = start(&certificates, false) else { return };
    let (image, reference) = (Image::new(1), registry.reference("a/b:v1"));
    let file = Access { ca_files: vec![certificates.file("ca.crt")], ..Access::default() };
    image.push(&*network(file.clone()).create(&reference).unwrap());
    image.compare(&*network(file).open(&reference).unwrap());
    let dir = cert_dir(&registry.host, &[("ca.crt", &certificates.file("ca.crt"))]);
    let dirs = Access { cert_dirs: vec!["/nowhere".into(), dir.path().into()], ..Access::default() };
    image.compare(&*network(dirs).open(&reference).unwrap());
    assert_eq!(problem(Access::default(), &reference), TlsProblem::UnknownIssuer);
    let other = cert_dir("127.0.0.1:1", &[("ca.crt", &certificates.file("ca.crt"))]);
    let other = Access { cert_dirs: vec![other.path().into()], ..Access::default() };
    assert_eq!(problem(other, &reference), TlsProblem::UnknownIssuer);
}

#[test]
fn a_client_certificate_is_shown_to_its_host() {
    let Some(certificates) = Certificates::new() else { return };
    let Some(registry) = start(&certificates, true) else { return };
    certificates.client("client");
    let (ca, crt, key) =
        (certificates.file("ca.crt"), certificates.file("client.crt"), certificates.file("client.key"));
    let (image, reference) = (Image::new(2), registry.reference("a/b:v1"));
    let files: [(&str, &Path); 3] = [("ca.crt", &ca), ("me.cert", &crt), ("me.key", &key)];
    let dir = cert_dir(&registry.host, &files);
    let access = |dir: &TempDir| Access { cert_dirs: vec![dir.path().into()], ..Access::default() };
    image.push(&*network(access(&dir)).create(&reference).unwrap());
    image.compare(&*network(access(&dir)).open(&reference).unwrap());
    let without = cert_dir(&registry.host, &files[..1]);
    let error = network(access(&without)).open(&reference).unwrap().root().unwrap_err();
    // With TLS 1.3 the refusal comes behind the handshake, and a reset may come before it.
    let refused = matches!(error.detail(), Some(RegistryFault::Tls { problem: TlsProblem::ClientCertificate, .. }));
    assert!(refused || matches!(error.detail(), Some(RegistryFault::Broken { .. })), "{error:?}");
    let no_key = cert_dir(&registry.host, &files[..2]);
    assert_eq!(problem(access(&no_key), &reference), TlsProblem::OwnFiles);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nothing").unwrap();
    let reference = parse("docker://localhost:1/a/b:v1");
    for path in [file.path(), Path::new("/nowhere/ca.crt")] {
        let access = Access { ca_files: vec![path.to_owned()], ..Access::default() };
        let error = network(access).open(&reference).unwrap().root().unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(matches!(error.detail(), Some(RegistryFault::Tls { problem: TlsProblem::OwnFiles, .. })), "{error:?}");
    }
}
