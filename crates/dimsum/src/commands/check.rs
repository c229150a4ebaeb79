//! `dimsum check`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use dimsum_format::Digest;
use dimsum_source::Prefer;
use dimsum_store::{CheckProgress, NodeKey, Severity};
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::check::against::against;
use crate::check::blobs::{BlobCheck, Checked, blob_name};
use crate::check::compare::Comparison;
use crate::check::{Finding, Findings};
use crate::cli::DEFAULT_STORE;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Report, Tame, total};
use dimsum_engine::image::{self, Held, Resolved, find_in_store, parse, resolve};

/// Prove an image where it lies, compare it with its source, or prove this node's store
///
/// Without options: digests and lengths of all blobs, the meta from its root, all maps, and the whole file system.
/// Whatever is wrong is named with file and offset, and the exit status is 3.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    image: ImageArg,
    /// Also compare the image's tree with that of an ordinary image or of dir:PATH: type, mode, owner, size, device, links, time, xattrs,
    /// content
    #[arg(long, value_name = "SOURCE")]
    against: Option<String>,
    /// Also decode every chunk of every pack and prove it
    #[arg(long)]
    data: bool,
    /// Prove this node's copies instead: every file of the store, or of the store in DIR
    // Takes the place of the option that all commands share: a check of the source uses no store, so naming one can only
    // mean this.
    #[arg(long, conflicts_with_all = ["against", "data"], num_args = 0..=1, require_equals = true)]
    #[arg(value_name = "DIR", default_missing_value = DEFAULT_STORE)]
    store: Option<PathBuf>,
    /// Differences to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

impl Check {
    /// Checks and prints what was found.
    ///
    /// # Errors
    /// If anything is wrong, or the check cannot be made.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let result = if self.store.is_some() { self.check_store(context)? } else { self.check_image(context)? };
        context.output.write(&result)?;
        result.verdict()
    }

    fn check_image(&self, context: &Context) -> Result<CheckReport, Error> {
        let resolved = resolve(&context.engine, &parse(&self.image.image)?, Prefer::Dimsum)?;
        if !resolved.manifest.is_dimsum() {
            return Err(Error::Usage {
                object: resolved.reference.to_string(),
                reason: "this is an ordinary image, not a Dimsum image".to_owned(),
                hint: "`dimsum convert SOURCE oci:DIR:TAG` makes one; `dimsum check IMAGE --store` checks what the store has of it",
            });
        }
        let mut findings = Findings::default();
        let total = total(resolved.manifest.layers.iter().map(|layer| layer.size));
        let phase = context.progress.phase(&format!("checking {}", resolved.reference), Some(total));
        let mut check = BlobCheck::new(&resolved, self.data, &mut findings);
        let checked = check.run(|bytes| phase.set(bytes));
        let (bytes, chunks) = (check.bytes, check.chunks);
        if let Some(checked) = &checked {
            validate(checked, &resolved, &mut findings);
        }
        drop(phase);
        let comparison = match (&self.against, &checked) {
            (Some(source), Some(checked)) => {
                let _phase = context.progress.phase(&format!("comparing with {source}"), None);
                Some(against(context, &resolved, checked, source, self.list)?)
            }
            _ => None,
        };
        let image = resolved.reference.to_string();
        Ok(CheckReport { image, digest: resolved.digest, bytes, chunks, findings, comparison })
    }

    fn check_store(&self, context: &Context) -> Result<CheckReport, Error> {
        // Not opened, which would mend what is to be found.
        let Held { reference, digest, store } = find_in_store(&context.engine, &self.image.image)?;
        let key = NodeKey::open(&context.engine.config().node_key).ok();
        let phase =
            context.progress.phase(&format!("checking the store {}", context.engine.config().store.display()), None);
        let report = store.check(key.as_ref(), &mut |progress: CheckProgress| phase.set(progress.bytes));
        drop(phase);
        let mut findings = Findings::default();
        for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Damage) {
            let what = format!("{}: {}", finding.object, finding.cause);
            findings.add(finding.path.display().to_string(), Some(finding.offset), what);
        }
        findings.count = findings.count.saturating_add(report.more);
        let image = reference.to_string();
        Ok(CheckReport { image, digest, bytes: report.bytes, chunks: 0, findings, comparison: None })
    }
}

fn validate(checked: &Checked, resolved: &Resolved, findings: &mut Findings) {
    if let Err(error) = image::validate_erofs(checked.erofs(), &checked.maps) {
        findings.add(blob_name(&resolved.reference, checked.manifest.meta.digest), None, error);
    }
}

/// What a check found.
#[derive(Serialize)]
struct CheckReport {
    image: String,
    digest: Digest,
    bytes: u64,
    chunks: u64,
    findings: Findings,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

impl CheckReport {
    fn verdict(&self) -> Result<(), Error> {
        let differences = self.comparison.as_ref().map_or(0, |comparison| comparison.differences);
        match self.findings.count.saturating_add(differences) {
            0 => Ok(()),
            count => Err(Error::Findings { object: self.image.clone(), count }),
        }
    }
}

impl Report for CheckReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { object, offset, what } in &self.findings.listed {
            let (object, what) = (Tame(object), Tame(what));
            match offset {
                Some(offset) => writeln!(out, "{object}: at byte {offset}: {what}")?,
                None => writeln!(out, "{object}: {what}")?,
            }
        }
        if let Some(comparison) = &self.comparison {
            for each in &comparison.listed {
                let (source, image) = (Tame(&each.source), Tame(&each.image));
                writeln!(out, "{}: {}: source {source}, image {image}", each.path, each.what)?;
            }
            writeln!(out, "names compared: {}, differences: {}", comparison.names, comparison.differences)?;
        }
        let (bytes, chunks, count) = (self.bytes, self.chunks, self.findings.count);
        writeln!(out, "{} {}: {bytes} bytes read, {chunks} chunks proven, findings: {count}", self.image, self.digest)
    }
}
