//! The settings: every flag of the command line is a `GLIMPSE_` variable too ([`parse`]); all are checked once, before
//! anything starts.

mod bench;
#[cfg(feature = "cluster")]
mod fleet;
mod limits;
mod simulation;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use model::checkpoint::{self, Checkpoint};
use model::device::{Choice, Dtype};
use model::{LoadError, Quantize, QuantizeChoice};

use crate::pull::{self, Begun};
use gateway::access::Network;
use hub::Model;
use values::one_of;

pub use self::bench::BenchArgs;
#[cfg(feature = "cluster")]
pub use fleet::{DrainArgs, FleetArgs, GatewayArgs, NatsArgs, WorkerArgs};
pub use limits::LimitArgs;
pub use values::{Bytes, EarlierPictures, ImageDecoder, Switch};

/// Answers questions about a picture, on your own hardware.
#[derive(Debug, Parser)]
#[command(
    name = "glimpse",
    version,
    propagate_version = true,
    after_help = "Examples:
  glimpse serve                           the demo checkpoint at http://127.0.0.1:8080
  glimpse serve --model zai-org/glm-4v-9b the published model, fetched if need be
  glimpse mcp --root ~/Pictures           tools for an agent, which starts it
  glimpse generate --image cat.jpg --prompt 'How many cats?'
  glimpse inspect --model ./glm-4v-9b     what it takes to run it
  glimpse pull zai-org/glm-4v-9b          fetch the published model
  glimpse bench                           how fast it is here"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub log: LogArgs,
}

/// The command line and the environment; ends the process if they ask for help or make no sense.
pub fn parse() -> Cli {
    let matches = with_variables(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|problem| problem.exit())
}

/// Gives every flag its variable: `--max-batch` is `GLIMPSE_MAX_BATCH`.
fn with_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let Some(long) = arg.get_long() else {
            return arg;
        };
        let variable = format!("GLIMPSE_{}", long.to_uppercase().replace('-', "_"));
        match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()).env(variable),
            _ => arg.env(variable),
        }
    });
    command.mut_subcommands(with_variables)
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the page, the socket and the model.
    Serve(Box<ServeArgs>),
    /// Serve the page and the socket for a fleet of workers, which `glimpse worker` starts.
    #[cfg(feature = "cluster")]
    Gateway(Box<GatewayArgs>),
    /// Serve the model to the gateways of a fleet.
    #[cfg(feature = "cluster")]
    Worker(Box<WorkerArgs>),
    /// Have a worker of a fleet finish what it has, and end.
    #[cfg(feature = "cluster")]
    Drain(DrainArgs),
    /// Say which workers and gateways a fleet has, and how much they have to do.
    #[cfg(feature = "cluster")]
    Fleet(FleetArgs),
    /// Be the eyes of the agent that starts this: tools over standard input and output, by the Model Context Protocol.
    #[cfg(feature = "mcp")]
    Mcp(Box<McpArgs>),
    /// Answer one question, with no server.
    Generate(Box<GenerateArgs>),
    /// Say what a model folder holds, what it takes to run, and what is wrong with it.
    Inspect(InspectArgs),
    /// Say whether a checkpoint is whole and computes here what it should, in about a minute.
    Check(CheckArgs),
    /// Fetch a model by its name, or what is missing of it, and print its folder.
    Pull(PullArgs),
    /// List the models in the hubs' caches, or remove one.
    Models(ModelsArgs),
    /// Write a folder's weights in 8 or 4 bits, once, so that they need not be quantized at every start.
    Quantize(QuantizeArgs),
    /// A decoder process, which `serve` starts: its pictures come through standard input.
    #[command(hide = true)]
    Decoder,
    /// Measure a server as its clients see it, with each optimisation on and off, and write a report.
    Bench(Box<BenchArgs>),
}

/// How the log is written, to stderr.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `glimpse_gateway::session=debug,info` [default:
    /// info of a server, else warn]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
}

/// Which model, where it runs and in which numbers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// The checkpoint's folder, or a model's name on a hub, which is fetched if it is not in the cache: owner/name,
    /// owner/name@revision, or ms:owner/name on ModelScope [default: the embedded demo checkpoint]
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<PathBuf>,
    /// Random weights instead of a checkpoint, for measuring; the shapes come from --config.
    #[arg(
        long,
        value_name = "SEED",
        requires = "config",
        conflicts_with = "model"
    )]
    pub random_weights: Option<u64>,
    /// A config.json, for --random-weights.
    #[arg(long, value_name = "FILE", requires = "random_weights")]
    pub config: Option<PathBuf>,
    /// auto, cpu, cuda:0, cuda:1 …; auto is the GPU that this build can use, or for `serve` all of them, else the CPU.
    #[arg(long, default_value = "auto")]
    pub device: Choice,
    /// The numbers to compute with; auto is bf16 on a GPU and f32 on the CPU. f16 is for the CPU alone, which keeps the
    /// weights in it: on a GPU the model's numbers would outgrow it.
    #[arg(long, value_parser = one_of::<Dtype, _>(Dtype::NAMES), default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// How exactly the weights are kept: none is as the device computes, q8 and q4 take 8 and 4 bits, fp8 is 8-bit floats, for
    /// cards of compute capability 8.9 and later. auto is the most exact that the memory holds with two conversations; a folder
    /// that holds blocks keeps them.
    #[arg(long, value_parser = one_of::<QuantizeChoice, _>(QuantizeChoice::NAMES), default_value_t = QuantizeChoice::Auto)]
    pub quantize: QuantizeChoice,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

impl ModelArgs {
    /// What is asked for ([`ModelArgs::checkpoint`]), but a model of a hub as soon as it is known what it is: its weights may
    /// come while others go on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn begin(&self) -> Result<Begun, LoadError> {
        match self
            .model
            .as_ref()
            .and_then(|path| path.to_str())
            .map(Model::told)
        {
            Some(Model::Named(name)) => pull::begin(&name),
            _ => Ok(Begun {
                checkpoint: self.checkpoint()?,
                download: None,
            }),
        }
    }

    /// What is asked for: a folder, a model of a hub, random weights, or the demo. What is not in the hub's cache is fetched
    /// first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checkpoint(&self) -> Result<Checkpoint, LoadError> {
        match (&self.model, self.random_weights, &self.config) {
            (Some(path), _, _) => {
                let folder = pull::folder(path).map_err(LoadError)?;
                let checkpoint = Checkpoint::open(&checkpoint::folder(&folder))?;
                Ok(match path.to_str().map(Model::told) {
                    Some(Model::Named(name)) => pull::named(checkpoint, &name),
                    _ => checkpoint,
                })
            }
            (None, Some(seed), Some(config)) => Checkpoint::random(config, seed),
            _ => Checkpoint::open(&checkpoint::DEMO),
        }
    }
}

/// How pictures are read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Speed")]
pub struct DecoderArgs {
    /// What decodes JPEG.
    #[arg(long, value_enum, default_value_t = ImageDecoder::Turbojpeg)]
    pub image_decoder: ImageDecoder,
}

/// What decodes pictures in a server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Speed")]
pub struct DecodeArgs {
    #[command(flatten)]
    pub decoder: DecoderArgs,
    /// Decode each picture in a process that can do nothing else, so that a bad one takes down nothing but itself (on
    /// Linux; elsewhere always off).
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub image_process: Switch,
    /// Pictures that are decoded at once [default: one a core, but 2 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub decoders: Option<u16>,
}

/// What becomes of pictures before anybody looks at them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Speed")]
pub struct PictureArgs {
    #[command(flatten)]
    pub decode: DecodeArgs,
    /// Look only once at a picture that several sessions send. Whoever sends one can then tell by the time whether
    /// somebody else did before.
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    pub share_pictures: Switch,
}

/// What makes it fast, each with a switch that turns it off, for measuring.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Speed")]
pub struct EngineArgs {
    /// Look at a picture as soon as it is there, not at the first question.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub eager_encode: Switch,
    /// Keep what was computed for a conversation for its next question.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub prefix_cache: Switch,
    /// Run everything once before the first client.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub warmup: Switch,
    /// How many answers are written at once, at most 16. Where the cache has no room for all of them, the newest make room for
    /// the oldest, and go on where they were.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub max_batch: u8,
    /// The most memory for what is kept of pictures and conversations, such as 2GiB [default: by the device]
    #[arg(long, value_name = "BYTES")]
    pub cache_bytes: Option<Bytes>,
    /// The most questions that wait for the model; more are told `busy`.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub queue: u32,
}

/// Where spans go.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The OpenTelemetry collector that spans go to (OTLP over HTTP), such as http://127.0.0.1:4318; the standard OTEL_
    /// variables are heard as well [default: none]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// What serves clients, whoever computes.
#[derive(Clone, Debug, Args)]
pub struct DoorArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Threads that serve the network.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub http_threads: u16,
    /// How long running answers may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, value_parser = limits::seconds)]
    pub drain_seconds: f64,
    #[command(flatten)]
    pub export: ExportArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse serve                                        the demo checkpoint, for this machine only
  glimpse serve --model zai-org/glm-4v-9b              the published model, fetched once
  glimpse serve --model ./glm-4v-9b --device cuda:0
  glimpse serve --listen 0.0.0.0:8080 --allow-host pictures.example.org --api-key-file keys.txt")]
pub struct ServeArgs {
    #[command(flatten)]
    pub doors: DoorArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pictures: PictureArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[cfg(feature = "mcp")]
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse mcp --root ~/Pictures                        an agent starts this, and names pictures by their paths
  glimpse mcp --model ./glm-4v-9b --device cuda:0
A server that runs already has the tools too, at /mcp.")]
pub struct McpArgs {
    #[command(flatten)]
    pub sources: SourceArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pictures: PictureArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The HTTP API at /v1, which programs use that speak OpenAI's.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP API")]
pub struct ApiArgs {
    /// Names that the model is served under [default: its own]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub served_model_name: Vec<String>,
    /// What becomes of a conversation with several pictures, of which the model sees one: `refuse` it, or `drop` all but the
    /// last, with a line of text in their places.
    #[arg(long, value_enum, default_value_t = EarlierPictures::Refuse)]
    pub earlier_pictures: EarlierPictures,
}

/// Where pictures may come from, beside what is sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pictures from elsewhere")]
pub struct SourceArgs {
    /// Hosts that pictures may be fetched from: names, .example.org for all below it, or * for any. Private networks are never
    /// asked, unless by an address that is named here [default: none]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub fetch_images: Vec<String>,
    /// A folder whose pictures the tools at /mcp may name by their paths: everyone who may ask can then have any picture in it
    /// looked at. No link leads out of it [default: none]
    #[cfg(feature = "mcp")]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Who may in.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// A name that this server may be called by, beside localhost and IP addresses.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub allow_host: Vec<String>,
    /// A page elsewhere that may use this server, such as https://example.org.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<String>,
    /// API keys, one a line, each with limits of its own if need be: `KEY connections=4 connects=30 asks=60`. Read anew
    /// on SIGHUP. Without this everyone who can reach the address may in.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The certificate chain, in PEM, to serve https and wss. Read anew on SIGHUP, as is its key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A proxy, or a network of them, whose X-Forwarded-For (or Forwarded) and X-Forwarded-Host are believed. It has to
    /// set or drop these itself.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,
    /// Connections of all together, plain HTTP and WebSockets. Beyond, the oldest that no session has is closed.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_connections: u32,
    /// Connections at once from one address, plain HTTP and WebSockets; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub connections_per_address: u32,
    /// New WebSockets a minute from one address or key; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub connects_per_minute: u32,
    /// Questions a minute from one address or key; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub asks_per_minute: u32,
    /// Hold this machine's own connections to the limits too. What comes through a proxy always is.
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    pub limit_loopback: Switch,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse generate --image cat.jpg --prompt '图里有几只猫?'
  glimpse generate --model ./glm-4v-9b --image cat.jpg --prompt 'Describe it.' --greedy --json
  glimpse generate --model ./glm-4v-9b --image receipt.jpg --prompt 'What was bought?' --json-schema receipt.json
  glimpse generate --model ./glm-4v-9b --image cat.jpg --dump-pixels pixels.safetensors")]
pub struct GenerateArgs {
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The question.
    #[arg(long, value_name = "TEXT", required_unless_present = "dump_pixels")]
    pub prompt: Option<String>,
    /// The system turn, before the question.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub system: String,
    /// Answer with JSON that is valid by this JSON Schema.
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Always take the likeliest token.
    #[arg(long, conflicts_with = "temperature")]
    pub greedy: bool,
    /// 0 (greedy) to 2 [default: the checkpoint's]
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Over 0, at most 1 [default: the checkpoint's]
    #[arg(long)]
    pub top_p: Option<f64>,
    /// 0 is off [default: the checkpoint's]
    #[arg(long)]
    pub top_k: Option<u64>,
    /// Over 0, at most 2; 1 is off [default: the checkpoint's]
    #[arg(long)]
    pub repetition_penalty: Option<f64>,
    /// The same seed draws the same answer.
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_new_tokens: Option<u64>,
    /// Show the K likeliest tokens at each step, in --json.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub logprobs: usize,
    /// Print one JSON object with tokens, positions and timings.
    #[arg(long)]
    pub json: bool,
    /// Treat the picture exactly as the original does: no EXIF orientation, transparency dropped.
    #[arg(long)]
    pub raw_pixels: bool,
    /// Write what would enter the vision tower, and stop.
    #[arg(long, value_name = "OUT.safetensors", requires = "image")]
    pub dump_pixels: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decoder: DecoderArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse inspect                            the demo checkpoint
  glimpse inspect --model ./glm-4v-9b --json
A folder with nothing but config.json is enough for the counts. The exit status is 1 if something is wrong with what
the folder holds.")]
pub struct InspectArgs {
    /// The checkpoint's folder, or a model's name, as `serve` takes it [default: the embedded demo checkpoint]
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write the tokenizer as a tokenizer.json, which load generators and other programs read; nothing is printed.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub tokenizer_json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse check --model zai-org/glm-4v-9b
What must hold: the files are whole, known texts have known ids, every number is finite. What is usual: what a good model
says of a drawn picture, in English and Chinese. The exit status is 1 if anything fails that must hold. Nothing of the
machine but its device is told, so that the report can be shown to others.")]
pub struct CheckArgs {
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse pull zai-org/glm-4v-9b                       from huggingface.co, or the mirror that HF_ENDPOINT names
  glimpse pull zai-org/glm-4v-9b@main                  a branch, a tag or a commit
  glimpse pull ms:ZhipuAI/glm-4v-9b                    from ModelScope
What is fetched lies in the caches of huggingface_hub (HF_HOME, HF_HUB_CACHE) and of modelscope (MODELSCOPE_CACHE), and
what these have is not fetched again. HF_TOKEN, HF_HUB_OFFLINE and MODELSCOPE_API_TOKEN are heard too. A download that was
cut goes on where it stopped.")]
pub struct PullArgs {
    /// owner/name or ms:owner/name, with @revision if not the newest is meant
    #[arg(value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glimpse models                                       what there is, and what it takes
  glimpse models --remove zai-org/glm-4v-9b            all of it
  glimpse models --remove zai-org/glm-4v-9b@v1         one revision, and what no other needs")]
pub struct ModelsArgs {
    /// Remove a model, or one revision of it.
    #[arg(long, value_name = "NAME")]
    pub remove: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse quantize --model ./glm-4v-9b --quantize q4 --out ./glm-4v-9b-q4
  glimpse serve --model ./glm-4v-9b-q4")]
pub struct QuantizeArgs {
    /// The folder as published, or a model's name, as `serve` takes it
    #[arg(long, value_name = "DIR|NAME")]
    pub model: PathBuf,
    /// 8 or 4 bits: q8 or q4
    #[arg(long, value_parser = one_of::<Quantize, _>(Quantize::NAMES))]
    pub quantize: Quantize,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Threads that quantize [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_a_variable_too() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                if let Some(long) = arg
                    .get_long()
                    .filter(|long| !["help", "version"].contains(long))
                {
                    let variable = arg.get_env().and_then(|name| name.to_str());
                    let expected = format!("GLIMPSE_{}", long.to_uppercase().replace('-', "_"));
                    assert_eq!(variable, Some(&*expected));
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&with_variables(Cli::command()));
    }

    #[test]
    fn serve_needs_nothing() {
        let cli = Cli::try_parse_from(["glimpse", "serve"]).unwrap();
        let Command::Serve(serve) = cli.command else {
            panic!("serve was asked for")
        };
        assert_eq!(serve.doors.listen.to_string(), "127.0.0.1:8080");
        assert!(serve.engine.eager_encode.is_on() && !serve.pictures.share_pictures.is_on());
        assert_eq!(serve.engine.max_batch, 2);
        assert!(Cli::try_parse_from(["glimpse", "serve", "--max-batch", "16"]).is_ok());
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for arguments in [
            &["serve", "--max-batch", "17"][..],
            &["serve", "--max-batch", "0"],
            &["serve", "--device", "gpu"],
            &["serve", "--cache-bytes", "lots"],
            &["serve", "--random-weights", "1"],
            &["serve", "--drain-seconds", "-1"],
            &["serve", "--idle-seconds", "nan"],
            &["serve", "--eager-encode", "maybe"],
            &["generate"],
        ] {
            let all = ["glimpse"].iter().chain(arguments);
            assert!(Cli::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
