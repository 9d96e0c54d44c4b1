//! The settings of a server on many machines.

use std::path::PathBuf;

use clap::Args;

use super::{Bytes, DoorArgs, EngineArgs, ExportArgs, ModelArgs, PictureArgs};

/// Where the machines meet.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Fleet")]
pub struct NatsArgs {
    /// The NATS server with JetStream that gateways and workers meet at, or several of one cluster: nats://host:4222 or
    /// tls://host:4222, with user:password@ before the host where it asks for them.
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub nats: Vec<String>,
    /// A file by which NATS knows this process: credentials, as `nsc` writes them, or the seed of an nkey (`nsc generate nkey
    /// --user`) [default: none]
    #[arg(long, value_name = "FILE")]
    pub nats_credentials: Option<PathBuf>,
    /// A file of certificates in PEM that those of NATS' servers are signed by, for tls:// [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// On how many servers of NATS' cluster everything is kept: 1, 3 or 5. Whoever comes first decides.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nats_replicas: u8,
    /// The most bytes that pictures' copies take at NATS, for when a worker is lost; with less, who sends one more is told
    /// `busy`. Whoever comes first decides.
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    pub nats_pictures: Bytes,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse gateway --nats nats://10.0.0.5:4222 --listen 0.0.0.0:8080 --allow-host pictures.example.org
Any number of them serve one fleet; docs/fleet.md has more.")]
pub struct GatewayArgs {
    #[command(flatten)]
    pub nats: NatsArgs,
    /// A file with a secret that all gateways of the fleet have in common: what NATS keeps of sessions can be read by those alone
    /// who have it (`openssl rand -hex 32` makes one). Without it, also by whoever may read NATS' memory [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Fleet")]
    pub fleet_secret: Option<PathBuf>,
    #[command(flatten)]
    pub doors: DoorArgs,
    #[command(flatten)]
    pub pictures: PictureArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse worker --nats nats://10.0.0.5:4222 --model zai-org/glm-4v-9b --device cuda:0
All workers of a fleet serve the same model in the same numbers; docs/fleet.md has more.")]
pub struct WorkerArgs {
    #[command(flatten)]
    pub nats: NatsArgs,
    /// What the worker is called, unlike any other: letters, digits, - and _ [default: the machine's name and a random number]
    #[arg(long, value_name = "NAME", help_heading = "Fleet")]
    pub name: Option<String>,
    #[command(flatten)]
    pub export: ExportArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse drain --nats nats://10.0.0.5:4222 gpu-3-1f2e
It returns once the worker has ended. Its conversations go on with other workers.")]
pub struct DrainArgs {
    /// The worker's name, as it says at its start.
    pub worker: String,
    #[command(flatten)]
    pub nats: NatsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  glimpse fleet --nats nats://10.0.0.5:4222
A worker of which no heartbeat comes is said to be silent; gateways strike it off after some time.")]
pub struct FleetArgs {
    /// Write JSON, for programs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nats: NatsArgs,
}
