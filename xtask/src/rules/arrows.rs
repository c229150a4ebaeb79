//! The table of arrows: which of our crates may use which.
//!
//! `ARCHITECTURE.md` describes the floors. An arrow leads to a lower floor, or to a crate of the same floor that stands
//! before it in this table. So the table itself can hold no circle; a test checks that.

/// The floors of the house, from the ground up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Floor {
    /// Traits, formats and protocols that know nothing of each other's users.
    Ground,
    /// One job each, over the ground.
    Component,
    /// The facade that a third party uses.
    Engine,
    /// Programs and servers.
    Front,
    /// Tests and tools, never shipped: they may use everything.
    Tool,
}

/// One crate and the crates of ours that it may use.
#[derive(Debug)]
pub struct Arrows {
    pub name: &'static str,
    pub floor: Floor,
    pub may_use: &'static [&'static str],
}

const fn arrows(floor: Floor, name: &'static str, may_use: &'static [&'static str]) -> Arrows {
    Arrows { name, floor, may_use }
}

/// Every crate of the workspace, and those that are planned: an unused row does no harm, a missing row is an error.
pub const TABLE: &[Arrows] = &[
    arrows(Floor::Ground, "dimsum-sys", &[]),
    arrows(Floor::Ground, "dimsum-format", &[]),
    arrows(Floor::Ground, "dimsum-tree", &[]),
    arrows(Floor::Ground, "dimsum-source", &["dimsum-format", "dimsum-sys"]),
    arrows(Floor::Ground, "dimsum-events", &["dimsum-format", "dimsum-source", "dimsum-sys"]),
    arrows(Floor::Ground, "dimsum-fuse", &["dimsum-events", "dimsum-sys"]),
    arrows(Floor::Component, "dimsum-erofs", &["dimsum-tree"]),
    arrows(Floor::Component, "dimsum-registry", &["dimsum-events", "dimsum-format", "dimsum-source", "dimsum-sys"]),
    arrows(
        Floor::Component,
        "dimsum-layout",
        &["dimsum-events", "dimsum-format", "dimsum-source", "dimsum-sys", "dimsum-tree"],
    ),
    arrows(Floor::Component, "dimsum-store", &["dimsum-events", "dimsum-format", "dimsum-source", "dimsum-sys"]),
    arrows(Floor::Component, "dimsum-recipe", &["dimsum-format", "dimsum-source", "dimsum-tree"]),
    arrows(
        Floor::Component,
        "dimsum-convert",
        &["dimsum-erofs", "dimsum-events", "dimsum-format", "dimsum-recipe", "dimsum-source", "dimsum-tree"],
    ),
    arrows(
        Floor::Component,
        "dimsum-mount",
        &[
            "dimsum-erofs",
            "dimsum-events",
            "dimsum-format",
            "dimsum-fuse",
            "dimsum-source",
            "dimsum-store",
            "dimsum-sys",
        ],
    ),
    arrows(Floor::Component, "dimsum-run", &["dimsum-events", "dimsum-format", "dimsum-source", "dimsum-sys"]),
    arrows(
        Floor::Engine,
        "dimsum-engine",
        &[
            "dimsum-convert",
            "dimsum-erofs",
            "dimsum-events",
            "dimsum-format",
            "dimsum-fuse",
            "dimsum-fuse",
            "dimsum-layout",
            "dimsum-mount",
            "dimsum-recipe",
            "dimsum-registry",
            "dimsum-run",
            "dimsum-source",
            "dimsum-store",
            "dimsum-sys",
            "dimsum-tree",
        ],
    ),
    arrows(
        Floor::Front,
        "dimsum-node",
        &[
            "dimsum-engine",
            "dimsum-events",
            "dimsum-format",
            "dimsum-fuse",
            "dimsum-mount",
            "dimsum-source",
            "dimsum-store",
            "dimsum-sys",
        ],
    ),
    arrows(Floor::Front, "dimsum", &["dimsum-engine", "dimsum-node"]),
    arrows(Floor::Tool, "dimsum-fuzz", &[]),
    arrows(Floor::Tool, "dimsum-fuzz-targets", &[]),
    arrows(Floor::Tool, "dimsum-bench", &[]),
    arrows(Floor::Tool, "dimsum-testing", &[]),
    arrows(Floor::Tool, "xtask", &[]),
];

/// Arrows that stand only until the crates of the table exist. An entry that is not used any more is an error.
pub const FOR_NOW: &[(&str, &str)] = &[];

/// Packages that a crate must not reach through normal dependencies, however far away they are.
pub const OUT_OF_REACH: &[(&str, &[&str])] = &[
    ("dimsum-format", &["tokio", "reqwest", "hyper", "rustls"]),
    ("dimsum-tree", &["tokio", "reqwest", "hyper", "rustls"]),
    ("dimsum-erofs", &["tokio", "reqwest", "hyper", "rustls"]),
    ("dimsum-source", &["reqwest", "hyper", "rustls"]),
    ("dimsum-events", &["reqwest", "hyper", "rustls"]),
    ("dimsum-layout", &["reqwest", "hyper", "rustls"]),
    ("dimsum-store", &["reqwest", "hyper", "rustls"]),
    ("dimsum-convert", &["reqwest", "hyper", "rustls"]),
    ("dimsum-mount", &["reqwest", "hyper", "rustls"]),
    ("dimsum-run", &["reqwest", "hyper", "rustls"]),
];

#[cfg(test)]
mod tests {
    use super::{Floor, TABLE};

    #[test]
    fn every_arrow_leads_down() {
        for (at, from) in TABLE.iter().enumerate() {
            for target in from.may_use {
                let to = TABLE.iter().position(|row| row.name == *target).expect("an arrow leads to a row");
                assert!(TABLE[to].floor <= from.floor && to < at, "{} -> {target}", from.name);
            }
        }
    }

    #[test]
    fn the_command_line_knows_engine_and_server_alone() {
        let dimsum = TABLE.iter().find(|row| row.name == "dimsum").expect("a row");
        assert_eq!((dimsum.floor, dimsum.may_use), (Floor::Front, &["dimsum-engine", "dimsum-node"][..]));
    }
}
