//! The settings of `glimpse bench --fleet`.

use std::path::PathBuf;

use clap::Args;
use simulation::{Card, Listed, Load, Machine, Wire};

/// A fleet in virtual time.
#[derive(Debug, Args)]
#[command(next_help_heading = "A fleet in virtual time")]
pub struct SimulationArgs {
    /// Simulate a fleet instead, for --duration: with the scheduler and the placement that serve, and stage times that were
    /// measured.
    #[arg(long, conflicts_with_all = ["stages", "agreement", "url", "serve", "compare", "users", "rate"])]
    pub fleet: bool,
    /// What each worker computes on: h100, h200, 24gb, or a file with stage times like theirs.
    #[arg(long, value_name = "CARD", default_value = "h100", requires = "fleet")]
    pub card: String,
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "fleet")]
    pub workers: u32,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "fleet")]
    pub gateways: u32,
    /// Cores of each gateway that decode pictures.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024), requires = "fleet")]
    pub decoders: u32,
    /// Sessions that are open at once, each with a picture; of several numbers each for itself, and a plot of all.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [2_000], value_parser = clap::value_parser!(u32).range(1..=10_000_000), requires = "fleet")]
    pub sessions: Vec<u32>,
    /// Between a session's questions, in the mean.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = super::limits::seconds, requires = "fleet")]
    pub gap: f64,
    /// How many of a hundred questions bring a new picture.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100), requires = "fleet")]
    pub new_pictures: u8,
    /// Tokens of an answer, in the mean.
    #[arg(long, value_name = "TOKENS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "fleet")]
    pub answer: u32,
    /// When for how long how many times as much is asked, such as 120:30:3.
    #[arg(long, value_name = "AT:SECONDS:TIMES", value_delimiter = ',', value_parser = burst, requires = "fleet")]
    pub burst: Vec<(f64, f64, f64)>,
    /// Workers that die in an hour, each for a minute.
    #[arg(long, value_name = "N", default_value_t = 0.0, requires = "fleet")]
    pub losses: f64,
    /// When a tenth of the workers dies at once, in seconds.
    #[arg(long, value_name = "AT,…", value_delimiter = ',', requires = "fleet")]
    pub stampede: Vec<f64>,
    /// When a gateway dies, in seconds.
    #[arg(long, value_name = "AT,…", value_delimiter = ',', requires = "fleet")]
    pub gateway_loss: Vec<f64>,
    /// What NATS takes, as tests/bench/nats.py measures it [default: server/simulation/cards/nats.json]
    #[arg(long, value_name = "FILE", requires = "fleet")]
    pub nats_rates: Option<PathBuf>,
    /// Streams that questions and answers are spread over.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), requires = "fleet")]
    pub streams: u32,
    /// How many NATS servers keep each record.
    #[arg(long, value_name = "1|3", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3), requires = "fleet")]
    pub replicas: u32,
    /// What an hour of a card costs [default: the example in the card's file]
    #[arg(long, value_name = "PRICE", requires = "fleet")]
    pub price: Option<f64>,
    /// The questions, as a list in JSON, in place of drawn ones.
    #[arg(long, value_name = "FILE", requires = "fleet")]
    pub schedule: Option<PathBuf>,
    /// What is drawn is the same for the same number.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "fleet")]
    pub seed: u64,
    /// Threads to simulate with; what comes out does not depend on them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), requires = "fleet")]
    pub cores: u32,
    /// Compute every turn, also where nothing changes: slower, and the same.
    #[arg(long, requires = "fleet")]
    pub stepwise: bool,
    /// Begin with nothing cached, and count from the first second on.
    #[arg(long, requires = "fleet")]
    pub cold_fleet: bool,
}

impl SimulationArgs {
    /// What is simulated of so many sessions for so many seconds.
    ///
    /// # Errors
    /// A sentence, if a file can't be read.
    pub fn load(
        &self,
        sessions: u32,
        seconds: f64,
    ) -> Result<(Load, Machine, Vec<Listed>), String> {
        let mut card = Card::read(&self.card)?;
        if let Some(price) = self.price {
            card.price_per_hour = price;
            card.price_of = "--price".into();
        }
        let cold = self.cold_fleet || self.schedule.is_some();
        let load = Load {
            workers: self.workers,
            gateways: self.gateways,
            sessions,
            seconds,
            warm_up: if cold { 0.0 } else { (seconds / 5.0).min(60.0) },
            warm: !cold,
            gap: self.gap.max(1e-3),
            new_pictures: f64::from(self.new_pictures) / 100.0,
            answer: self.answer,
            bursts: self.burst.clone(),
            losses: self.losses,
            stampedes: self.stampede.clone(),
            gateway_losses: self.gateway_loss.clone(),
            seed: self.seed,
            ..Load::default()
        };
        let machine = Machine {
            card,
            wire: Wire::read(self.nats_rates.as_deref())?,
            cores: self.decoders,
            streams: self.streams,
            replicas: self.replicas,
            threads: self.cores,
            jumps: !self.stepwise,
        };
        Ok((load, machine, self.list(sessions)?))
    }

    fn list(&self, sessions: u32) -> Result<Vec<Listed>, String> {
        let Some(file) = &self.schedule else {
            return Ok(Vec::new());
        };
        let told = |what: String| format!("--schedule {}: {what}", file.display());
        let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
        let list: Vec<Listed> = serde_json::from_str(&text).map_err(|e| told(e.to_string()))?;
        match list.iter().any(|it| it.session >= sessions) {
            true => Err(told("a session's number is not below --sessions".into())),
            false => Ok(list),
        }
    }
}

fn burst(text: &str) -> Result<(f64, f64, f64), String> {
    let parts: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
    match parts.as_deref() {
        Ok([at, lasts, times]) if *times > 0.0 => Ok((*at, *lasts, *times)),
        _ => Err("three numbers, such as 120:30:3".into()),
    }
}
