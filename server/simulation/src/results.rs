//! What a run came to.

use crate::card::Card;
use crate::load::Load;
use crate::worker::Done;

/// Times, by their logarithms: 64 buckets a doubling, each 1.1 % wide.
#[derive(Clone, Default)]
pub struct Times {
    buckets: Vec<u32>,
    count: u64,
}

const PER_DOUBLING: f64 = 64.0;

impl Times {
    pub fn add(&mut self, ns: u64) {
        let bucket = ((ns.max(1) as f64).log2() * PER_DOUBLING) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// The time, in milliseconds, that such a part of all is not above; 0 if there is none.
    pub fn quantile(&self, part: f64) -> f64 {
        let most = (part * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= most {
                return ((bucket as f64 + 0.5) / PER_DOUBLING).exp2() / 1e6;
            }
        }
        0.0
    }
}

/// What is counted on the way.
pub struct Tally {
    begin: u64,
    asked: u64,
    kept: Times,
    brought: Times,
    all: Times,
    moved_first: Times,
    between: Times,
    answered: u64,
    refused: u64,
    tokens: u64,
    prompt: u64,
    cached: u64,
    pub moved: u64,
    pub losses: u64,
    pub gateways: u64,
}

impl Tally {
    /// Counts what is asked from `begin` on.
    pub fn new(begin: u64) -> Self {
        Tally {
            begin,
            asked: 0,
            kept: Times::default(),
            brought: Times::default(),
            all: Times::default(),
            moved_first: Times::default(),
            between: Times::default(),
            answered: 0,
            refused: 0,
            tokens: 0,
            prompt: 0,
            cached: 0,
            moved: 0,
            losses: 0,
            gateways: 0,
        }
    }

    pub fn asked(&mut self, at: u64) {
        self.asked += u64::from(at >= self.begin);
    }

    pub fn first(&mut self, asked: u64, now: u64, brings: bool, moved: bool) {
        if asked < self.begin {
            return;
        }
        let took = now - asked;
        self.all.add(took);
        match (moved, brings) {
            (true, _) => self.moved_first.add(took),
            (false, true) => self.brought.add(took),
            (false, false) => self.kept.add(took),
        }
    }

    /// An answer is over whose first word came at `first`, where nothing interrupted it.
    pub fn ended(&mut self, asked: u64, first: Option<u64>, now: u64, tokens: u32) {
        if asked < self.begin {
            return;
        }
        self.answered += 1;
        self.tokens += u64::from(tokens);
        if let Some(first) = first.filter(|_| tokens > 1) {
            self.between.add((now - first) / u64::from(tokens - 1));
        }
    }

    /// So many of a prompt's entries were cached.
    pub fn hit(&mut self, asked: u64, prompt: u32, cached: u32) {
        if asked >= self.begin {
            self.prompt += u64::from(prompt);
            self.cached += u64::from(cached);
        }
    }

    pub fn refused(&mut self, asked: u64) {
        self.refused += u64::from(asked >= self.begin);
    }

    pub fn results(&self, done: &[Done], load: &Load, card: &Card) -> Results {
        let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
        let span = load.seconds * 1e9 * done.len().max(1) as f64;
        let counted = (load.seconds - load.warm_up).max(1e-9);
        let hours = load.seconds / 3600.0 * done.len() as f64;
        let tokens = sum(|it| it.tokens);
        let pages = done.iter().map(|it| it.pages as f64).sum::<f64>();
        Results {
            asked: self.asked,
            answered: self.answered,
            refused: self.refused,
            moved: self.moved,
            losses: self.losses,
            gateways: self.gateways,
            kept_p50: self.kept.quantile(0.5),
            kept_p99: self.kept.quantile(0.99),
            brought_p50: self.brought.quantile(0.5),
            brought_p99: self.brought.quantile(0.99),
            first_p50: self.all.quantile(0.5),
            first_p99: self.all.quantile(0.99),
            moved_p50: self.moved_first.quantile(0.5),
            between_p50: self.between.quantile(0.5),
            between_p99: self.between.quantile(0.99),
            tokens_per_second: self.tokens as f64 / counted,
            hit_rate: self.cached as f64 / self.prompt.max(1) as f64,
            cards: sum(|it| it.busy) as f64 / span,
            slots: sum(|it| it.slots) as f64 / (span * card.slots as f64),
            looking: sum(|it| it.looking) as f64 / span,
            pages: pages / (card.pages * done.len().max(1)) as f64,
            decoders: 0.0,
            records: 0.0,
            bytes: 0.0,
            pictures: sum(|it| it.pictures),
            turns: sum(|it| it.turns),
            jumped: sum(|it| it.jumped),
            per_million_answers: hours * card.price_per_hour
                / (tokens as f64 / f64::from(load.answer.max(1))).max(1.0)
                * 1e6,
        }
    }
}

/// A run's figures. Times are milliseconds, parts are of one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Results {
    pub asked: u64,
    pub answered: u64,
    pub refused: u64,
    /// Answers that went on elsewhere.
    pub moved: u64,
    pub losses: u64,
    pub gateways: u64,
    /// First words: of questions whose picture was sent before, of those that bring one, and of all.
    pub kept_p50: f64,
    pub kept_p99: f64,
    pub brought_p50: f64,
    pub brought_p99: f64,
    pub first_p50: f64,
    pub first_p99: f64,
    /// Of those whose worker was lost before it.
    pub moved_p50: f64,
    /// Between two words of an answer, in its mean.
    pub between_p50: f64,
    pub between_p99: f64,
    pub tokens_per_second: f64,
    /// Of the prompts' entries, those that were cached.
    pub hit_rate: f64,
    /// How full each resource was: cards at work, of this with pictures; their pages at the end; gateways' cores; what NATS' streams
    /// take in records and bytes.
    pub cards: f64,
    pub slots: f64,
    pub looking: f64,
    pub pages: f64,
    pub decoders: f64,
    pub records: f64,
    pub bytes: f64,
    pub pictures: u64,
    pub turns: u64,
    pub jumped: u64,
    pub per_million_answers: f64,
}

impl Results {
    /// The resource that is the fullest, but for pages, of which none lies idle for long; and how full it is.
    pub fn fullest(&self) -> (&'static str, f64) {
        let all = [
            ("cards' slots", self.slots),
            ("cards' time, with pictures", self.looking),
            ("gateways' decoding cores", self.decoders),
            ("NATS' records", self.records),
            ("NATS' bytes", self.bytes),
        ];
        let most = all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        most.unwrap_or(("nothing", 0.0))
    }

    /// The table that is printed.
    pub fn table(&self, load: &Load, card: &Card) -> String {
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        let ms = |p50: f64, p99: f64| format!("{p50:.1} ms, {p99:.0} ms");
        let (what, part) = self.fullest();
        let rows = [
            (
                "asked",
                format!("{} in {:.0} s", self.asked, load.seconds - load.warm_up),
            ),
            ("answered", self.answered.to_string()),
            (
                "refused",
                format!(
                    "{} ({})",
                    self.refused,
                    percent(self.refused as f64 / self.asked.max(1) as f64)
                ),
            ),
            (
                "moved",
                format!("{} by {} losses of workers", self.moved, self.losses),
            ),
            (
                "first word, p50 and p99",
                ms(self.first_p50, self.first_p99),
            ),
            ("picture sent before", ms(self.kept_p50, self.kept_p99)),
            ("with a new picture", ms(self.brought_p50, self.brought_p99)),
            ("between words", ms(self.between_p50, self.between_p99)),
            ("tokens a second", format!("{:.0}", self.tokens_per_second)),
            ("prefix hit rate", percent(self.hit_rate)),
            (
                "cards at work",
                format!(
                    "{}, with pictures {}",
                    percent(self.cards),
                    percent(self.looking)
                ),
            ),
            ("slots in use", percent(self.slots)),
            ("pages of the cache in use", percent(self.pages)),
            ("gateways' decoding cores", percent(self.decoders)),
            (
                "NATS' records, bytes",
                format!("{}, {}", percent(self.records), percent(self.bytes)),
            ),
            ("fullest", format!("{what}, {}", percent(part))),
            (
                "cards for a million answers",
                format!(
                    "{:.0} at {} an hour ({})",
                    self.per_million_answers, card.price_per_hour, card.price_of
                ),
            ),
            (
                "turns",
                format!(
                    "{}, of which jumped over {}",
                    self.turns,
                    percent(self.jumped as f64 / self.turns.max(1) as f64)
                ),
            ),
        ];
        let mut out = format!(
            "{} workers ({}), {} gateways, {} sessions, {:.0} s\n\n| | |\n|---|---|\n",
            load.workers, card.name, load.gateways, load.sessions, load.seconds
        );
        for (name, value) in rows {
            out += &format!("| {name} | {value} |\n");
        }
        out
    }
}
