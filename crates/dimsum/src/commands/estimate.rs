//! `dimsum estimate`.

use std::ffi::OsString;

use clap::Args;
use dimsum_engine::container::RunError;
use dimsum_engine::estimate::{ANSWER_MS, EstimateLink, EstimateRequest};

use super::conversion_args::ConversionArgs;
use super::sharing_args::SharingArgs;
use crate::context::Context;
use crate::error::Error;
use crate::trial::{Trial, allowed};

/// Estimate an image as a Dimsum image: bytes stored, pushed and fetched here, and time until ready
///
/// The image is converted into a scratch directory below $TMPDIR (/var/tmp), which is removed afterwards. Nothing is
/// written to a target or to this node's store. The report has the stored bytes, and with --target the bytes that this
/// repository has already. It also has the packs and chunks that this node's store has, in images that were opened
/// there. With --dedup-with or --reuse it is converted as `convert` would into that repository, which is only read: the
/// same bytes come out.
///
/// A command is run once as `dimsum run` runs it (as root), from an empty store and without a fill. Its output goes to
/// standard error. It should end when it is ready, as the command of a health check does: all bytes that it touches
/// count. The time until it is ready then follows for each --bandwidth:
///
/// lazily: time here + (4 + requests) x (round trip + answer) + bytes / bandwidth
///
/// pulled first: 0.5 s + 6 x round trip + layers / bandwidth + tars / 125 MB/s + files x 0.12 ms + time of the command
/// here
///
/// "Time here" has decoding, verifying and the command's own work in it. Requests count as if they came one after the other, so what reads in
/// parallel is ready sooner. The constants of a pull are those of containerd 2.4 on one machine, good to about a third.
#[derive(Debug, Args)]
#[command(override_usage = "dimsum estimate [OPTIONS] IMAGE [CMD]...")]
pub struct Estimate {
    /// The image, ordinary or a Dimsum image, and a command to run in it
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["IMAGE [CMD]"])]
    words: Vec<OsString>,
    /// Compare with this repository and tag, as if it were pushed there: bytes that are there, and bytes that the image
    /// there shares
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Estimate for links of these bandwidths, in 10^6 bits a second, with commas between them or the option given
    /// again [default: 1000,100]
    #[arg(long, value_name = "MBIT[,MBIT]", value_delimiter = ',', value_parser = positive, default_values_t = [1000.0, 100.0])]
    #[arg(hide_default_value = true)]
    bandwidth: Vec<f64>,
    /// Assume this round trip of the link, in milliseconds
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value_t = 5.0)]
    rtt: f64,
    /// Assume this time of the registry for an answer, without the round trip, in milliseconds
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value_t = ANSWER_MS)]
    answer: f64,
    /// Use this entrypoint for the command; an empty one is none
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
        let run = !command.is_empty();
        let (target, sharing) = (self.target.clone(), self.sharing.request());
        let options = self.conversion.options(&context);
        let request = EstimateRequest { image, target, options, sharing, run };
        request.check()?;
        if run {
            allowed(&request.image)?;
        }
        let mut estimation = context.engine.estimate(&request)?;
        if run {
            let trial = Trial { options: self.options(), command: &command };
            let seen = trial.run(&context, &estimation, &interrupts)?;
            estimation.add_run(command, seen, self.links());
        }
        context.output.write(&estimation.finish())
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

    /// Returns the options of the run.
    fn options(&self) -> Vec<String> {
        let mut options: Vec<String> = self.env.iter().map(|env| format!("--env={env}")).collect();
        options.extend(self.entrypoint.iter().map(|program| format!("--entrypoint={program}")));
        options.extend(self.user.iter().map(|user| format!("--user={user}")));
        options
    }

    fn links(&self) -> impl Iterator<Item = EstimateLink> {
        self.bandwidth.iter().map(|mbit| EstimateLink { mbit: *mbit, rtt_ms: self.rtt, answer_ms: self.answer })
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
