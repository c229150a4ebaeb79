//! The bill of materials of our own program, in CycloneDX: the packages that are linked into it, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::dimsum::workspace;

/// The program whose packages are listed.
const PROGRAM: &str = "dimsum";

/// Returns the document: packages with version, licence, checksum, and what each uses.
pub fn of_the_program(version: &str) -> Result<String> {
    let metadata = metadata()?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .filter_map(|package| Some((package["id"].as_str()?.to_owned(), package)))
        .collect();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        // Build scripts and macros run at build time; they are listed because they shape what is built.
        let dependencies = list(&node["deps"])
            .into_iter()
            .filter(|dependency| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev"));
        let ids = dependencies.filter_map(|dependency| Some(dependency["pkg"].as_str()?.to_owned())).collect();
        uses.insert(node["id"].as_str().context("a package id")?.to_owned(), ids);
    }
    let program = packages.iter().find(|(_, package)| package["name"] == PROGRAM).context("the program's package")?.0;
    let sums = checksums()?;
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    for id in reached(&uses, program) {
        let package = packages.get(&id).context("a package of the graph")?;
        let used: Vec<_> = uses[&id].iter().map(|id| url(&packages[id])).collect();
        dependencies.push(json!({"ref": url(package), "dependsOn": used}));
        if id != *program {
            components.push(component(package, &sums));
        }
    }
    let root = json!({"type": "application", "bom-ref": url(&packages[program]), "name": PROGRAM, "version": version,
        "licenses": [{"expression": "Apache-2.0"}]});
    let document = json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": root}, "components": components, "dependencies": dependencies});
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(workspace())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Everything that can be reached from this package, itself included.
fn reached(uses: &BTreeMap<String, Vec<String>>, from: &str) -> BTreeSet<String> {
    let (mut pending, mut found) = (vec![from.to_owned()], BTreeSet::new());
    while let Some(id) = pending.pop() {
        if found.insert(id.clone()) {
            pending.extend(uses.get(&id).into_iter().flatten().cloned());
        }
    }
    found
}

/// The package URL: what vulnerability databases look packages up by.
fn url(package: &Value) -> String {
    let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
    let mut component = json!({"type": "library", "bom-ref": url(package), "name": package["name"],
        "version": package["version"], "purl": url(package)});
    if let Some(licence) = package["license"].as_str() {
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(sum) = sums.get(&(text("name"), text("version"))) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

/// The checksums of the lock file, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::of_the_program;

    #[test]
    fn every_linked_package_is_listed_with_version_licence_and_checksum() {
        let document: Value = serde_json::from_str(&of_the_program("1.2.3").expect("cargo runs")).expect("JSON");
        let components = document["components"].as_array().expect("components");
        let find = |name: &str| components.iter().find(|component| component["name"] == name);
        let zstd = find("zstd").expect("zstd is linked");
        assert_eq!(zstd["hashes"][0]["content"].as_str().map(str::len), Some(64), "{zstd}");
        assert!(zstd["licenses"][0]["expression"].is_string() && zstd["version"].is_string(), "{zstd}");
        assert!(find("proptest").is_none(), "tests are not shipped");
        assert_eq!(document["metadata"]["component"]["version"], "1.2.3");
    }
}
