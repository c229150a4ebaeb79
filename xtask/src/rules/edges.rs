//! Crates use only crates that the table of arrows allows: floors of one house, arrows only downwards.
//!
//! Normal and build dependencies count, from `cargo metadata`. Dev dependencies do not: tests may look up.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::arrows::{FOR_NOW, Floor, OUT_OF_REACH, TABLE};
use crate::dimsum::workspace;

/// Package names and the names of the packages that they use, of the whole dependency graph.
type PackageGraph = BTreeMap<String, BTreeSet<String>>;

pub fn check() -> Result<Vec<String>> {
    let (graph, members) = graph()?;
    let mut findings = wrong_arrows(&graph, &members, FOR_NOW);
    for (name, banned) in OUT_OF_REACH {
        for target in *banned {
            if let Some(way) = way(&graph, name, target) {
                findings.push(format!("{name} must not reach {target}: {}", way.join(" -> ")));
            }
        }
    }
    Ok(findings)
}

/// The graph that the lock file gives for Linux, and the crates of the workspace.
fn graph() -> Result<(PackageGraph, BTreeSet<String>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(workspace())
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?.to_owned(), package["name"].as_str()?.to_owned())))
        .collect();
    let name = |id: &Value| id.as_str().and_then(|id| names.get(id)).cloned().context("a package without a name");
    let mut graph = PackageGraph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let uses = graph.entry(name(&node["id"])?).or_default();
        for dependency in list(&node["deps"]) {
            let is_dev = |kind: &Value| kind["kind"] == "dev";
            if !list(&dependency["dep_kinds"]).iter().all(is_dev) {
                uses.insert(name(&dependency["pkg"])?);
            }
        }
    }
    let members = list(&metadata["workspace_members"]).iter().map(name).collect::<Result<_>>()?;
    Ok((graph, members))
}

fn wrong_arrows(graph: &PackageGraph, members: &BTreeSet<String>, for_now: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut used: BTreeSet<&(&str, &str)> = BTreeSet::new();
    for from in members {
        let Some(row) = TABLE.iter().find(|row| row.name == from) else {
            findings.push(format!("{from} has no row in the table of arrows (xtask/src/rules/arrows.rs)"));
            continue;
        };
        for to in graph.get(from).into_iter().flatten().filter(|to| members.contains(*to)) {
            let is_for_now = for_now.iter().find(|(a, b)| a == from && b == to);
            used.extend(is_for_now);
            if row.floor != Floor::Tool && !row.may_use.contains(&to.as_str()) && is_for_now.is_none() {
                findings.push(format!("{from} may not use {to}"));
            }
        }
    }
    for stale in for_now.iter().filter(|arrow| !used.contains(arrow)) {
        findings.push(format!("the arrow {} -> {} is gone: take it from FOR_NOW", stale.0, stale.1));
    }
    findings
}

/// A shortest way from one package to another.
fn way(graph: &PackageGraph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = std::collections::VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if last == to {
            return Some(way);
        }
        for next in graph.get(last).into_iter().flatten() {
            if seen.insert(next.as_str()) {
                let mut longer = way.clone();
                longer.push(next.clone());
                ways.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PackageGraph, way, wrong_arrows};

    fn graph(arrows: &[(&str, &str)]) -> (PackageGraph, BTreeSet<String>) {
        let mut graph = PackageGraph::new();
        for (from, to) in arrows {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        let members = arrows.iter().flat_map(|(from, to)| [*from, *to]).filter(|name| name.starts_with("dimsum"));
        (graph, members.map(str::to_owned).collect())
    }

    #[test]
    fn an_arrow_that_leads_up_is_found() {
        let (graph, members) = graph(&[("dimsum-format", "dimsum-store"), ("dimsum-store", "dimsum-format")]);
        assert_eq!(wrong_arrows(&graph, &members, &[]), ["dimsum-format may not use dimsum-store"]);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let (graph, members) = graph(&[("dimsum-attic", "dimsum-format")]);
        assert_eq!(wrong_arrows(&graph, &members, &[]).len(), 1);
    }

    #[test]
    fn an_allowance_that_nobody_needs_is_found() {
        let (graph, members) = graph(&[("dimsum-store", "dimsum-format"), ("dimsum-format", "serde")]);
        let for_now = [("dimsum-store", "dimsum-registry")];
        let findings = wrong_arrows(&graph, &members, &for_now);
        assert_eq!(findings, ["the arrow dimsum-store -> dimsum-registry is gone: take it from FOR_NOW"]);
    }

    #[test]
    fn what_is_reached_through_others_is_reached() {
        let (graph, _) = graph(&[("dimsum-store", "a"), ("a", "b"), ("b", "rustls"), ("b", "a")]);
        assert_eq!(way(&graph, "dimsum-store", "rustls").expect("a way"), ["dimsum-store", "a", "b", "rustls"]);
        assert_eq!(way(&graph, "a", "dimsum-store"), None);
    }
}
