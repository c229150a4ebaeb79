//! Real registries on loopback ports of their own: Debian's `docker-registry`, distribution's `registry`, go-containerregistry's
//! `crane registry serve`. They are looked for in `$DIMSUM_PEERS` and in `$PATH`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dimsum_registry::{Access, Network, REGISTRY, Timing};
use dimsum_source::{Reference, Runtime, Schemes};
use tempfile::TempDir;

/// Attempts to get a port that nobody else took between our looking and the registry's.
const PORT_TRIES: usize = 5;

/// A user that the registries know, with a password that must be encoded right.
pub(crate) const USER: &str = "dimsum";
pub(crate) const PASSWORD: &str = "pa:ss word";
/// The same as bcrypt, the one form that registries read.
const HTPASSWD: &str = "dimsum:$2b$05$abcdefghijklmnopqrstuuDvFYunEEkRAUw6hKd4mLN/wdxTQz.ki\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Debian,
    V3,
    Crane,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Debian, Kind::V3, Kind::Crane];

/// A registry that ends with the test.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) host: String,
    /// Its files.
    _dir: TempDir,
    child: Child,
}

impl Kind {
    /// Returns the program, or says why there is none.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Debian => "docker-registry",
            Self::V3 => "registry",
            Self::Crane => "crane",
        };
        find(name, self == Self::Debian)
    }

    /// Starts it, with more lines for its configuration below `auth:` or `http:` where it has one.
    pub(crate) fn start(self) -> Option<Registry> {
        self.start_with(|_| Extra::default())
    }

    pub(crate) fn start_with(self, extra: impl Fn(&Path) -> Extra) -> Option<Registry> {
        let program = self.program()?;
        for _ in 0..PORT_TRIES {
            let dir = TempDir::new().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let host = format!("127.0.0.1:{port}");
            let mut command = Command::new(&program);
            if self == Self::Crane {
                command.args(["registry", "serve", "--address", &host, "--disk"]).arg(dir.path());
            } else {
                let config = dir.path().join("config.yml");
                fs::write(&config, configuration(&host, dir.path(), &extra(dir.path()))).unwrap();
                command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
            }
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let mut registry = Registry { host, _dir: dir, child };
            if registry.is_up() {
                return Some(registry);
            }
        }
        panic!("{} does not start", program.display());
    }
}

/// Lines of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Below `http:`.
    pub(crate) http: String,
    /// At the top.
    pub(crate) top: String,
}

fn configuration(host: &str, dir: &Path, extra: &Extra) -> String {
    let dir = dir.display();
    let Extra { http, top } = extra;
    format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {dir}/storage\n  \
         delete:\n    enabled: true\nhttp:\n  addr: {host}\n{http}{top}"
    )
}

/// Lines for user and password.
pub(crate) fn with_password(dir: &Path) -> Extra {
    let file = dir.join("htpasswd");
    fs::write(&file, HTPASSWD).unwrap();
    let top = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
    Extra { top, ..Extra::default() }
}

impl Registry {
    /// Reads what it logs until it listens, and then on in the background so that it never waits for us.
    fn is_up(&mut self) -> bool {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let up = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("listening on") || line.contains("serving on"));
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        up
    }

    /// Returns a reference to an image in it.
    pub(crate) fn reference(&self, name: &str) -> Reference {
        parse(&format!("docker://{}/{name}", self.host))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Finds a program of a test. Where everything must be tested, what Debian has must be there.
pub(crate) fn find(name: &str, required: bool) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let peers = std::env::var_os("DIMSUM_PEERS").map(PathBuf::from);
    let found =
        peers.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        if required { dimsum_testing::skip(name) } else { dimsum_testing::skip_anywhere(name) }
    }
    found
}

/// Parses what names an image in a registry.
pub(crate) fn parse(text: &str) -> Reference {
    let mut schemes = Schemes::default();
    schemes.add_default(REGISTRY);
    schemes.parse(text).unwrap()
}

/// A network with the defaults.
pub(crate) fn network(access: Access) -> Network {
    Network::new(access, &Runtime::start().unwrap())
}

/// A network that loses patience at once.
pub(crate) fn impatient() -> Network {
    Network::with_timing(Access::default(), &Runtime::start().unwrap(), quick())
}

/// Times for a registry that answers at once or never.
pub(crate) fn quick() -> Timing {
    use std::time::Duration;
    Timing {
        connect: Duration::from_millis(1500),
        idle: Duration::from_secs(1),
        least: 1 << 10,
        total: Duration::from_secs(20),
        commit: Duration::from_secs(2),
        tries: 3,
        pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(4),
        longest_retry_after: Duration::from_secs(1),
        helper: Duration::from_secs(5),
    }
}
