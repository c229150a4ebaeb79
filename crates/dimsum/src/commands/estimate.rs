//! `dimsum estimate`.

use std::ffi::OsString;
use std::time::Instant;

use clap::Args;
use dimsum_convert::Converted;
use dimsum_engine::image::{self, Opened, Resolved, open_resolved, parse, resolve};
use dimsum_run::RunError;
use dimsum_source::Prefer;

use super::conversion_args::ConversionArgs;
use super::sharing_args::SharingArgs;
use super::sharing_summary::SharingSummary;
use crate::context::Context;
use crate::error::Error;
use crate::estimate::model::{ANSWER_MS, Link, Ordinary, Run, full_pull, lazy};
use crate::estimate::presence::{in_target, on_node};
use crate::estimate::report::{DimsumSize, Estimate as Estimated, OrdinarySize, Ready, Touched};
use crate::estimate::scratch::{Scratch, Shared};
use crate::estimate::trial::{Seen, Trial, allowed};
use crate::output::total;

/// Tell what an image would cost as a Dimsum image: stored, pushed, on this node, and until it is ready
///
/// The image is converted into a scratch directory below $TMPDIR (/var/tmp), which is removed afterwards; nothing is written to a target or
/// to this node's store. It is told how many bytes it takes, with --target how many of them that repository has already, and which
/// packs this node's store has whole and which chunks it has at all, in images that were opened there. With --dedup-with or --reuse it is
/// converted as `convert` would into that repository, which is only read: the same bytes come out.
///
/// With a command, that is run as `dimsum run` runs it (as root), once, from an empty store and without a fill; its output goes to standard
/// error. It should end when it is ready, as the command of a health check does: what it touches until it has ended is what is
/// counted. From that, the time until it is ready is expected for each --bandwidth:
///
/// lazily: time here + (4 + requests) x (round trip + answer) + bytes / bandwidth
///
/// pulled first: 0.5 s + 6 x round trip + bytes of the layers / bandwidth + bytes of their tars / 125 MB/s + 0.12 ms for each file + time
/// of the command here
///
/// "Time here" has decoding, verifying and the command's own work in it. Requests count as if they came one after the other, so what reads in
/// parallel is ready sooner. The constants of a pull are those of containerd 2.4 on one machine, good to about a third.
#[derive(Debug, Args)]
#[command(override_usage = "dimsum estimate [OPTIONS] IMAGE [CMD]...")]
pub struct Estimate {
    /// The image, ordinary or a Dimsum image, and a command to run in it
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["IMAGE [CMD]"])]
    words: Vec<OsString>,
    /// The repository and tag that it would be pushed to: what of it is there, and what it shares with the image there now
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Bandwidths of links, in 10^6 bits a second, with commas between them or the option given again [default: 1000,100]
    #[arg(long, value_name = "MBIT[,MBIT]", value_delimiter = ',', value_parser = positive, default_values_t = [1000.0, 100.0])]
    #[arg(hide_default_value = true)]
    bandwidth: Vec<f64>,
    /// The round trip of the link, in milliseconds
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value_t = 5.0)]
    rtt: f64,
    /// What the registry takes to answer a request, without the round trip, in milliseconds
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value_t = ANSWER_MS)]
    answer: f64,
    /// Another entrypoint for the command; an empty one is none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set an environment variable for the command; without =V, to the value it has here
    #[arg(long = "env", value_name = "K[=V]")]
    env: Vec<String>,
    /// Run the command as USER[:GROUP], names of the image or numbers
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    conversion: ConversionArgs,
    #[command(flatten)]
    sharing: SharingArgs,
}

impl Estimate {
    /// Estimates and prints.
    ///
    /// # Errors
    /// If the image cannot be read or converted, the target cannot be asked, or the command cannot be started.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (context, interrupts) = context.with_interrupts()?;
        let (image, command) = self.words()?;
        self.check_sharing()?;
        if !command.is_empty() {
            allowed(&image)?;
        }
        // The original, where there are both: the question is what the Dimsum image costs beside it.
        let resolved = resolve(&context.engine, &parse(&context.engine, &image)?, Prefer::Original)?;
        let scratch = Scratch::create(&context)?;
        let prepared = self.prepare(&context, &scratch, resolved, !command.is_empty())?;
        interrupts.check()?;
        let target = self.target.as_deref();
        let mut target = target.map(|target| in_target(&context, &scratch, &prepared.opened, target)).transpose()?;
        if let (Some(target), Some(sharing)) = (&mut target, &prepared.sharing) {
            // Not there yet, but a registry makes them visible without moving them.
            target.push_bytes = target.push_bytes.saturating_sub(sharing.mounted_bytes());
        }
        let node = on_node(&context, &prepared.opened)?;
        let dimsum = dimsum_size(&prepared.opened)?;
        let seen = if command.is_empty() {
            None
        } else {
            let trial = Trial { image: prepared.opened.located.name(), options: self.options(), command: &command };
            Some(trial.run(&context, &scratch, &interrupts)?)
        };
        let ready = seen.map(|seen| self.ready(&prepared, dimsum.inodes, seen.run)).unwrap_or_default();
        let run = seen.map(|seen| touched(command, seen));
        let ordinary = prepared.ordinary;
        let (source_manifest, sharing) = (prepared.source, prepared.sharing);
        drop(prepared.opened);
        context.output.write(&Estimated { image, source_manifest, ordinary, dimsum, sharing, target, node, run, ready })
    }

    /// Refuses options that could not do anything.
    fn check_sharing(&self) -> Result<(), Error> {
        match self.sharing.needs_target() {
            Some(option) if self.target.is_none() => Err(Error::Usage {
                object: option.to_owned(),
                reason: "it looks for images in the repository that the image would be pushed to".to_owned(),
                hint: "name that with --target",
            }),
            _ => Ok(()),
        }
    }

    /// Returns the image and the command.
    fn words(&self) -> Result<(String, Vec<String>), Error> {
        let text = |word: &OsString| {
            word.clone().into_string().map_err(|text| Error::Run {
                object: text.display().to_string(),
                source: Box::new(RunError::NotUtf8 { what: "an argument", text }),
            })
        };
        let mut words = self.words.iter().map(text).collect::<Result<Vec<_>, _>>()?.into_iter();
        Ok((words.next().unwrap_or_default(), words.collect()))
    }

    fn prepare(&self, context: &Context, scratch: &Scratch, resolved: Resolved, run: bool) -> Result<Prepared, Error> {
        let source = resolved.digest;
        if resolved.manifest.is_dimsum() {
            if self.sharing.is_given() {
                return Err(Error::Usage {
                    object: resolved.reference.to_string(),
                    reason: "it is a Dimsum image already: it shares what it was converted with".to_owned(),
                    hint: "name the ordinary image that it was made of",
                });
            }
            let opened = if run && resolved.place.is_remote() {
                scratch.copy(context, &resolved)?;
                scratch.open(context)?
            } else {
                open_resolved(&scratch.context(context).engine, resolved)?
            };
            return Ok(Prepared { source, opened, ordinary: None, sharing: None });
        }
        let (started, options) = (Instant::now(), self.conversion.options(context));
        let (converted, sharing) = if self.sharing.is_given() {
            let (others, target) = (self.sharing.open(context)?, self.target.as_deref());
            let shared = Shared { target, others: &others, fetch: run };
            let converted = scratch.rehearse(context, &resolved, &options, shared)?;
            let sharing = SharingSummary::new(&converted.shared);
            (converted, Some(sharing))
        } else {
            (scratch.convert(context, &resolved, &options)?, None)
        };
        let ordinary = ordinary_size(&resolved, &converted, started.elapsed().as_secs_f64());
        Ok(Prepared { source, opened: scratch.open(context)?, ordinary: Some(ordinary), sharing })
    }

    /// Returns the options of the run.
    fn options(&self) -> Vec<String> {
        let mut options: Vec<String> = self.env.iter().map(|env| format!("--env={env}")).collect();
        options.extend(self.entrypoint.iter().map(|program| format!("--entrypoint={program}")));
        options.extend(self.user.iter().map(|user| format!("--user={user}")));
        options
    }

    fn ready(&self, prepared: &Prepared, files: u64, run: Run) -> Vec<Ready> {
        let ordinary = prepared.ordinary.as_ref();
        let ordinary = ordinary.map(|size| Ordinary { bytes: size.stored_bytes, tar_bytes: size.tar_bytes, files });
        let links = self.bandwidth.iter().map(|mbit| Link { mbit: *mbit, rtt_ms: self.rtt, answer_ms: self.answer });
        let ready = links.map(|link| Ready {
            link,
            lazy_seconds: lazy(run, link),
            pull_seconds: ordinary.map(|ordinary| full_pull(ordinary, run, link)),
        });
        ready.collect()
    }
}

/// An image that can be looked at.
struct Prepared {
    source: dimsum_format::Digest,
    opened: Opened,
    ordinary: Option<OrdinarySize>,
    sharing: Option<SharingSummary>,
}

fn ordinary_size(resolved: &Resolved, converted: &Converted, convert_seconds: f64) -> OrdinarySize {
    OrdinarySize {
        layers: resolved.manifest.layers.len(),
        stored_bytes: total(resolved.manifest.layers.iter().map(|layer| layer.size)),
        tar_bytes: total(converted.layers.iter().map(|layer| layer.tar_bytes)),
        convert_seconds,
    }
}

fn dimsum_size(opened: &Opened) -> Result<DimsumSize, Error> {
    let manifest = opened.image.manifest();
    let sizes = manifest.packs.iter().chain([&manifest.meta]).map(|blob| blob.size);
    Ok(DimsumSize {
        manifest: opened.located.digest,
        packs: manifest.packs.len(),
        stored_bytes: total(sizes),
        meta_bytes: manifest.meta.size,
        inodes: image::validate(opened)?.inodes,
    })
}

fn touched(command: Vec<String>, seen: Seen) -> Touched {
    Touched {
        command,
        exit_status: seen.exit_status,
        fetched_bytes: seen.run.bytes,
        requests: seen.run.requests,
        chunks: seen.chunks,
        read_bytes: seen.read_bytes,
        seconds: seen.run.seconds,
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).filter(|number| *number > 0.0).ok_or_else(|| "a number above 0".to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).ok_or_else(|| "a number, 0 or above".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_bandwidth_and_may_have_no_round_trip() {
        assert_eq!((positive("0.5"), not_negative("0")), (Ok(0.5), Ok(0.0)));
        for text in ["0", "-1", "nan", "inf", "x"] {
            assert!(positive(text).is_err(), "{text}");
        }
        assert!(not_negative("-0.1").is_err());
    }
}
