//! Programs that are not ours, started for one run and ended with it: a registry, a shaped link, containerd.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::demo::files;
use crate::dimsum::workspace;

/// How long a program may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child that is ended with this.
#[derive(Debug)]
struct ScopedChild(Child);

impl Drop for ScopedChild {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A free port of loopback. Another program may take it before it is used; then the run fails and is started again.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        ensure!(start.elapsed() < PATIENCE, "{what} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn answers(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Debian's docker-registry with its blobs in a directory.
#[derive(Debug)]
pub struct RegistryProcess {
    pub address: String,
    config: PathBuf,
    storage: PathBuf,
    log: File,
    process: Option<ScopedChild>,
}

impl RegistryProcess {
    pub fn start(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = directory.join("config.yml");
        let storage = directory.join("blobs");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: {address}}}\n",
                storage.display()
            ),
        )?;
        let log = File::create(directory.join("log"))?;
        let mut registry = Self { address, config, storage, log, process: None };
        registry.start_again()?;
        Ok(registry)
    }

    /// Ends it; its blobs stay.
    pub fn stop(&mut self) -> Result<()> {
        drop(self.process.take().context("the registry runs")?);
        Ok(())
    }

    /// Starts it on the same port with the same blobs.
    pub fn start_again(&mut self) -> Result<()> {
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&self.config)
            .stdout(self.log.try_clone()?)
            .stderr(self.log.try_clone()?)
            .spawn()
            .context("docker-registry; apt-get install docker-registry")?;
        self.process = Some(ScopedChild(process));
        wait_for("docker-registry", || answers(&self.address))
    }

    /// Its blobs by digest, each once, however many repositories have it: what it stores, manifests and configs included.
    pub fn blobs(&self) -> Result<BTreeMap<String, u64>> {
        let directory = self.blobs_directory();
        let mut blobs = BTreeMap::new();
        for data in if directory.exists() { files(&directory)? } else { Vec::new() } {
            let digest = data.parent().and_then(Path::file_name).context("blobs/sha256/xx/DIGEST/data")?;
            blobs.insert(format!("sha256:{}", digest.to_string_lossy()), data.metadata()?.len());
        }
        Ok(blobs)
    }

    /// The bytes of a blob, past its API.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let name = digest.strip_prefix("sha256:").context("a sha256 digest")?;
        let path = self.blobs_directory().join(name.get(..2).unwrap_or_default()).join(name).join("data");
        fs::read(&path).with_context(|| path.display().to_string())
    }

    fn blobs_directory(&self) -> PathBuf {
        self.storage.join("docker/registry/v2/blobs/sha256")
    }

    /// Pushes an image of an OCI layout as it is.
    pub fn push(&self, layout: &str, name: &str) -> Result<()> {
        let target = format!("docker://{}/{name}", self.address);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", layout, &target]);
        done(&mut skopeo)
    }
}

/// Runs a program that must succeed.
pub fn done(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a program that must succeed; returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    Ok(out.into_owned())
}

/// A slower, longer way to a registry: `corpus/tools`' netshape.
#[derive(Debug)]
pub struct ShapedLink {
    pub address: String,
    control: String,
    _process: ScopedChild,
}

/// What went over a link since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkTraffic {
    pub down: u64,
    pub connections: u64,
    pub requests: u64,
}

impl ShapedLink {
    /// Builds netshape once; returns the program.
    pub fn build() -> Result<PathBuf> {
        let manifest = workspace().join("corpus/tools/Cargo.toml");
        let target = workspace().join("target/corpus-tools");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--quiet", "--bin", "netshape", "--manifest-path"]).arg(manifest);
        done(build.env("CARGO_TARGET_DIR", &target))?;
        Ok(target.join("release/netshape"))
    }

    /// Starts a link of `rate` Mbit/s (0: no limit) and `rtt` milliseconds to `upstream`.
    pub fn start(program: &Path, upstream: &str, rate: u32, rtt: u32) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let control = format!("127.0.0.1:{}", free_port()?);
        let process = Command::new(program)
            .args([&address, upstream, "--rate", &rate.to_string(), "--rtt", &rtt.to_string(), "--control", &control])
            .spawn()
            .context("netshape")?;
        let link = Self { address, control, _process: ScopedChild(process) };
        wait_for("netshape", || answers(&link.control))?;
        link.take()?;
        Ok(link)
    }

    /// Returns what went over the link since the last call.
    pub fn take(&self) -> Result<LinkTraffic> {
        let mut line = String::new();
        BufReader::new(TcpStream::connect(&self.control)?).read_line(&mut line)?;
        let counted: Value = serde_json::from_str(&line)?;
        let get = |field: &str| counted[field].as_u64().unwrap_or(0);
        Ok(LinkTraffic { down: get("down"), connections: get("conns"), requests: get("reqs") })
    }
}

/// A containerd of its own, with state in a directory.
#[derive(Debug)]
pub struct Containerd {
    pub version: String,
    ctr: PathBuf,
    address: PathBuf,
    root: PathBuf,
    _process: ScopedChild,
}

impl Containerd {
    /// Starts the containerd in `programs` (`containerd`, `ctr` and the shim), else the one in `PATH`.
    pub fn start(programs: Option<&Path>, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let program = |name: &str| programs.map_or_else(|| PathBuf::from(name), |programs| programs.join(name));
        let version = output(Command::new(program("containerd")).arg("--version")).context("containerd")?;
        let version =
            version.split_whitespace().find(|word| word.starts_with(|c: char| c == 'v' || c.is_ascii_digit()));
        let version = version.unwrap_or("?").trim_start_matches('v').to_owned();
        let (root, address) = (directory.join("root"), directory.join("sock"));
        let config = directory.join("config.toml");
        let (state, socket) = (directory.join("state"), address.display().to_string());
        fs::write(
            &config,
            format!(
                "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{socket}\"\n",
                root.display(),
                state.display()
            ),
        )?;
        let log = File::create(directory.join("log"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = programs.map_or(path.clone(), |programs| format!("{}:{path}", programs.display()));
        let process = Command::new(program("containerd"))
            .arg("-c")
            .arg(&config)
            .env("PATH", path)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("containerd; apt-get install containerd")?;
        let containerd = Self { version, ctr: program("ctr"), address, root, _process: ScopedChild(process) };
        wait_for("containerd", || output(containerd.ctr().arg("version")).is_ok())?;
        Ok(containerd)
    }

    /// Its client.
    fn ctr(&self) -> Command {
        let mut ctr = Command::new(&self.ctr);
        ctr.arg("--address").arg(&self.address);
        ctr
    }

    /// Pulls, unpacks and runs an image with overlayfs, and takes it away again; returns seconds of pull and of the run.
    pub fn pull_and_run(&self, reference: &str, command: &str) -> Result<(f64, f64)> {
        let done = self.pull_then_run(reference, command);
        self.remove(reference)?;
        done
    }

    fn pull_then_run(&self, reference: &str, command: &str) -> Result<(f64, f64)> {
        let start = Instant::now();
        done(self.ctr().args(["images", "pull", "--plain-http", reference]))?;
        let pulled = start.elapsed().as_secs_f64();
        let name = format!("bench-{}", std::process::id());
        done(self.ctr().args(["run", "--rm", reference, &name, "/bin/sh", "-c", command]))?;
        Ok((pulled, start.elapsed().as_secs_f64() - pulled))
    }

    /// Takes an image away with its contents and snapshots.
    fn remove(&self, reference: &str) -> Result<()> {
        // It may not be there.
        drop(self.ctr().args(["images", "rm", "--sync", reference]).stdin(Stdio::null()).output()?);
        let left = self.root.join("io.containerd.content.v1.content/blobs/sha256");
        let count = fs::read_dir(left).map_or(0, Iterator::count);
        if count > 0 {
            bail!("containerd keeps {count} blobs of {reference}");
        }
        Ok(())
    }
}
