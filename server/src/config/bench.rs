//! The settings of `glimpse bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bench::load::{Kind, Launch, Servers, Settings, Way};
use clap::{Args, ValueEnum};

use model::device::Choice;

use super::simulation::SimulationArgs;
use super::{ModelArgs, limits};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse bench                                   before and after, on the demo checkpoint
  glimpse bench --runs 10 --cold 1 --before all   quickly: everything on against everything off
  glimpse bench --users 1,2,4,16,64 --duration 60
  glimpse bench --runs 0 --cold 0 --users 2 --duration 14400    a soak: memory over four hours
  glimpse bench --runs 0 --cold 0 --users 1,4,16 --one-picture -- --max-batch 16    how many are answered at once
  glimpse bench --url ws://127.0.0.1:8080/ws --before none      a server that runs already
  glimpse bench --out new --compare old/report.json
  glimpse bench --stages --random-weights 1 --config config.json --dtype bf16    the model alone
  glimpse bench --fleet --workers 1000 --gateways 50 --sessions 1000000 --duration 600    a fleet in virtual time
  glimpse bench --agreement held-out/questions.jsonl    what 8 and 4 bits do to the answers
  glimpse bench --model ./glm-4v-9b -- --cache-bytes 8GiB       what follows -- goes to glimpse serve")]
pub struct BenchArgs {
    /// Measure the model's stages on its device instead, with no server: the vision tower, prefill, decode steps, and
    /// what a layer is made of.
    #[arg(long, conflicts_with_all = ["url", "serve", "compare"])]
    pub stages: bool,
    /// Compare the answers of the model as it is, in 8 and in 4 bits with those of exact arithmetic (f32 on the CPU) instead,
    /// with no server: the questions are a file that `models/demo/train/evaluate.py --save` writes, beside its pictures.
    #[arg(long, value_name = "QUESTIONS.jsonl", conflicts_with_all = ["stages", "url", "serve", "compare", "quantize"])]
    pub agreement: Option<PathBuf>,
    /// What the same stages took elsewhere: the output of tests/reference/peer_torch.py on this machine, for the table.
    #[arg(long, value_name = "FILE", requires = "stages")]
    pub peer: Option<PathBuf>,
    /// A running server to measure [default: servers started for this]
    #[arg(long, value_name = "URL", conflicts_with = "serve")]
    pub url: Option<String>,
    /// Rounds with each server: a picture, a question about it, and a second one.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub runs: u32,
    /// Cold starts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub cold: u32,
    /// What to switch off for comparison, each in a server of its own beside the one with everything on. All of them
    /// run at once and are measured in turn, so there must be memory for that many models.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "SWITCH,…",
        default_values_t = [
            Before::EagerEncode,
            Before::PrefixCache,
            Before::Warmup,
            Before::ImageDecoder,
            Before::MaxBatch,
            Before::All
        ]
    )]
    pub before: Vec<Before>,
    /// A picture, or a folder of them [default: a generated 1920×1080 JPEG]
    #[arg(long, value_name = "PATH")]
    pub image: Option<PathBuf>,
    #[arg(long, value_name = "TEXT", default_value = "What is in the picture?")]
    pub prompt: String,
    /// The most tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_new_tokens: u64,
    /// Users at once, each asking again when answered (closed loop).
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub users: Vec<u32>,
    /// Each of the users sends one picture, before time counts, and asks about that again and again; without, there is a new
    /// picture with every question.
    #[arg(long, requires = "users")]
    pub one_picture: bool,
    /// Users who arrive each second, whether or not answers keep up (open loop). Latency counts from the time at which
    /// each was due.
    #[arg(long, value_name = "PER SECOND", value_delimiter = ',', value_parser = rate)]
    pub rate: Vec<f64>,
    /// How long each load lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = limits::seconds)]
    pub duration: f64,
    /// Where report.md, report.json and report.html are written.
    #[arg(long, value_name = "DIR", default_value = "bench-report")]
    pub out: PathBuf,
    /// Say what got slower since then; the exit status is 1 if something did.
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// More settings for the servers that are started.
    #[arg(last = true, value_name = "SERVE OPTIONS")]
    pub serve: Vec<OsString>,
}

impl BenchArgs {
    /// What is measured of servers.
    ///
    /// # Errors
    /// A sentence, if none can be started.
    pub fn load(&self) -> Result<Settings, String> {
        let kind = if self.one_picture {
            Kind::Asking
        } else {
            Kind::Users
        };
        let users = self.users.iter().map(|users| kind(*users));
        let rates = self.rate.iter().map(|rate| Kind::Rate(*rate));
        Ok(Settings {
            command: command(),
            servers: match &self.url {
                Some(url) => Servers::Running(socket(url)),
                None => Servers::Started(self.launch()?),
            },
            image: self.image.clone(),
            prompt: self.prompt.clone(),
            max_new_tokens: self.max_new_tokens,
            runs: self.runs,
            loads: users.chain(rates).collect(),
            duration: Duration::from_secs_f64(self.duration),
            out: self.out.clone(),
            compare: self.compare.clone(),
        })
    }

    fn launch(&self) -> Result<Launch, String> {
        let program = std::env::current_exe()
            .map_err(|e| format!("this program's own file can't be found: {e}"))?;
        let mut flags = self.model.flags();
        flags.extend(self.serve.iter().cloned());
        let before = || self.before.iter().copied();
        Ok(Launch {
            program,
            flags,
            before: before().filter_map(Before::way).collect(),
            cold: self.cold,
            // Nothing else makes a difference to them.
            cold_before: before()
                .find(|before| *before == Before::Warmup)
                .and_then(Before::way)
                .into_iter()
                .collect(),
        })
    }
}

/// The command line, without the folder of this program.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    let words = arguments.map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word,
    });
    std::iter::once("glimpse".into())
        .chain(words)
        .collect::<Vec<String>>()
        .join(" ")
}

/// The socket of a server whose page's address may have been given.
fn socket(url: &str) -> String {
    match url.strip_prefix("http") {
        Some(rest) => format!("ws{}/ws", rest.trim_end_matches('/')),
        None => url.to_owned(),
    }
}

/// An optimisation that is switched off for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Before {
    /// Nothing: measure as it is.
    None,
    EagerEncode,
    PrefixCache,
    Warmup,
    ImageDecoder,
    MaxBatch,
    /// Every one of them.
    All,
}

impl Before {
    /// The switches of `glimpse serve` that do it.
    fn flags(self) -> Vec<&'static str> {
        const EACH: [Before; 5] = [
            Before::EagerEncode,
            Before::PrefixCache,
            Before::Warmup,
            Before::ImageDecoder,
            Before::MaxBatch,
        ];
        match self {
            Before::None => vec![],
            Before::EagerEncode => vec!["--eager-encode", "off"],
            Before::PrefixCache => vec!["--prefix-cache", "off"],
            Before::Warmup => vec!["--warmup", "off"],
            Before::ImageDecoder => vec!["--image-decoder", "portable"],
            Before::MaxBatch => vec!["--max-batch", "1"],
            Before::All => EACH.into_iter().flat_map(Before::flags).collect(),
        }
    }

    /// How a server then is; none if that is as it comes.
    fn way(self) -> Option<Way> {
        let name = match self {
            Before::None => return None,
            Before::EagerEncode => "no eager encoding",
            Before::PrefixCache => "no prefix cache",
            Before::Warmup => "no warm-up",
            Before::ImageDecoder => "portable decoder",
            Before::MaxBatch => "one at a time",
            Before::All => "everything off",
        };
        Some(Way {
            name,
            flags: self.flags(),
            eager: !matches!(self, Before::EagerEncode | Before::All),
        })
    }
}

impl ModelArgs {
    /// These settings as command-line arguments for the measured server.
    fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |flag: &str, value: OsString| flags.extend([flag.into(), value]);
        if let Some(model) = &self.model {
            flag("--model", model.into());
        }
        if let Some(seed) = self.random_weights {
            flag("--random-weights", seed.to_string().into());
        }
        if let Some(config) = &self.config {
            flag("--config", config.into());
        }
        if self.device != Choice::Auto {
            flag("--device", self.device.to_string().into());
        }
        flag("--dtype", self.dtype.to_string().into());
        flag("--quantize", self.quantize.to_string().into());
        if let Some(threads) = self.threads {
            flag("--threads", threads.to_string().into());
        }
        flags
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (1e-3..=1e4).contains(rate))
        .ok_or_else(|| "must be a number from 0.001 to 10000".into())
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, ServeArgs};
    use super::*;
    use clap::Parser;

    fn serve(arguments: Vec<OsString>) -> Box<ServeArgs> {
        let command = ["glimpse".into(), "serve".into()];
        let cli = Cli::try_parse_from(command.into_iter().chain(arguments)).unwrap();
        let Command::Serve(serve) = cli.command else {
            panic!("serve was asked for")
        };
        serve
    }

    #[test]
    fn a_model_is_passed_on_as_it_was_given() {
        let given = [
            "--random-weights",
            "7",
            "--config",
            "big.json",
            "--device",
            "cpu",
            "--dtype",
            "bf16",
            "--quantize",
            "q4",
            "--threads",
            "3",
        ];
        let model = serve(given.iter().map(Into::into).collect()).model;
        assert_eq!(model.flags(), given.map(OsString::from));
    }

    #[test]
    fn everything_off_is_each_off() {
        let off = serve(Before::All.flags().into_iter().map(Into::into).collect());
        let (off, pictures) = (off.engine, off.pictures);
        assert!(!off.eager_encode.is_on() && !off.prefix_cache.is_on() && !off.warmup.is_on());
        assert_eq!(
            pictures.decode.decoder.image_decoder,
            super::super::ImageDecoder::Portable
        );
        assert_eq!(off.max_batch, 1);
    }
}
