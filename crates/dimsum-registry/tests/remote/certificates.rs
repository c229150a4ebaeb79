//! Certificates of a private authority, by the `openssl` command: a second opinion on what a certificate is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::real::find;

#[derive(Debug)]
pub(crate) struct Certificates {
    dir: TempDir,
    openssl: PathBuf,
}

impl Certificates {
    /// Makes an authority.
    pub(crate) fn new() -> Option<Self> {
        let these = Self { dir: TempDir::new().unwrap(), openssl: find("openssl", true)? };
        these.make(
            "ca",
            "ec",
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature\n",
            false,
        );
        Some(these)
    }

    /// Makes a certificate for this machine.
    pub(crate) fn server(&self, name: &str) {
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
        self.make(name, "ec", &format!("{names}extendedKeyUsage=serverAuth\n"), true);
    }

    /// Makes a certificate for a client.
    pub(crate) fn client(&self, name: &str) {
        self.make(name, "ec", "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n", true);
    }

    /// Makes a certificate that signs tokens.
    pub(crate) fn signer(&self, name: &str) {
        self.make(name, "rsa", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n", false);
    }

    /// Returns a file: `NAME.crt` or `NAME.key`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Signs with the key of `name`, RSA and SHA-256.
    pub(crate) fn sign(&self, name: &str, text: &str) -> Vec<u8> {
        let input = self.file("to-sign");
        fs::write(&input, text).unwrap();
        let mut command = Command::new(&self.openssl);
        command.args(["dgst", "-sha256", "-sign"]).arg(self.file(&format!("{name}.key"))).arg(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn make(&self, name: &str, kind: &str, extensions: &str, signed: bool) {
        let config = self.file(&format!("{name}.cnf"));
        let text = format!(
            "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN={name}\n[ext]\nsubjectKeyIdentifier=hash\n{extensions}"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(&self.openssl);
        command.args(["req", "-x509", "-nodes", "-days", "30", "-config"]).arg(config);
        match kind {
            "rsa" => command.args(["-newkey", "rsa:2048"]),
            _ => command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]),
        };
        command.arg("-keyout").arg(self.file(&format!("{name}.key")));
        command.arg("-out").arg(self.file(&format!("{name}.crt")));
        if signed {
            command.arg("-CA").arg(self.file("ca.crt")).arg("-CAkey").arg(self.file("ca.key"));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
