//! Converts an image or a directory and prints what it took: `convert SOURCE TARGET [JOBS]`, for measurements.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::num::NonZeroUsize;
use std::time::Instant;

use dimsum_convert::{ConvertOptions, Input, convert};
use dimsum_layout::{OciLayout, add_schemes};
use dimsum_source::{Prefer, Schemes, host_platform, resolve};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, jobs @ ..] = &*arguments else { anyhow::bail!("convert SOURCE TARGET [JOBS]") };
    let mut options = ConvertOptions::default();
    if let [jobs] = jobs {
        options.jobs = jobs.parse::<NonZeroUsize>()?;
    }
    let mut schemes = Schemes::default();
    add_schemes(&mut schemes);
    let target = schemes.parse(target)?;
    let Some(dir) = target.path() else { anyhow::bail!("TARGET is oci:DIR[:TAG]") };
    let target = OciLayout::create(dir, target.name().cloned())?;
    let start = Instant::now();
    let reference = schemes.parse(source)?;
    let converted = match (reference.tree(), reference.path()) {
        (Some(path), _) => convert(Input::Directory { path }, &target, &options, &())?,
        (None, Some(dir)) => {
            let source = OciLayout::open(dir, reference.name().cloned())?;
            let manifest = resolve(&source, &host_platform(), Prefer::Original)?.descriptor.digest;
            convert(Input::Image { source: &source, manifest }, &target, &options, &())?
        }
        _ => anyhow::bail!("SOURCE is oci:DIR[:TAG] or dir:PATH"),
    };
    let wall = start.elapsed();
    println!("{converted:#?}");
    let sum = |each: fn(&dimsum_convert::LayerSummary) -> u64| converted.layers.iter().map(each).sum::<u64>();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "{source} {} wall {:.2} s, {peak}, tar {}, content {}, null {}, shared {}, packs {}, meta {}, temp {}",
        converted.manifest,
        wall.as_secs_f64(),
        sum(|layer| layer.tar_bytes),
        sum(|layer| layer.content_bytes),
        sum(|layer| layer.null_bytes),
        sum(|layer| layer.shared_bytes),
        sum(|layer| layer.pack.map_or(0, |pack| pack.size)),
        converted.meta.size,
        converted.temp_bytes,
    );
    Ok(())
}
