//! Who asks what, when: drawn, the same for the same seed; or a list.

use serde::{Deserialize, Serialize};

/// A fleet and its load. Times are seconds.
#[derive(Clone, Debug)]
pub struct Load {
    pub workers: u32,
    pub gateways: u32,
    /// Sessions that are open at once.
    pub sessions: u32,
    pub seconds: f64,
    /// Of these, what is not counted.
    pub warm_up: f64,
    /// Every session's picture was looked at before, as far as there is room.
    pub warm: bool,
    /// Between a session's questions, in the mean.
    pub gap: f64,
    /// How many of the questions bring a new picture.
    pub new_pictures: f64,
    /// Tokens of a question and of an answer, in the mean.
    pub question: u32,
    pub answer: u32,
    /// Each of these: when it begins, how long it lasts, and how many times as much is asked.
    pub bursts: Vec<(f64, f64, f64)>,
    /// Workers lost in an hour, of all, and how long one is away.
    pub losses: f64,
    pub away: f64,
    /// When a gateway is lost, each of them.
    pub gateway_losses: Vec<f64>,
    /// When a tenth of all workers is lost at once, each of them.
    pub stampedes: Vec<f64>,
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            workers: 20,
            gateways: 1,
            sessions: 2_000,
            seconds: 600.0,
            warm_up: 60.0,
            warm: true,
            gap: 60.0,
            new_pictures: 0.1,
            question: 20,
            answer: 60,
            bursts: Vec::new(),
            losses: 0.0,
            away: 60.0,
            gateway_losses: Vec::new(),
            stampedes: Vec::new(),
            seed: 1,
        }
    }
}

/// A question of a list.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// When it is asked, in seconds.
    pub at: f64,
    pub session: u32,
    /// It brings a new picture, which nobody has seen.
    #[serde(default)]
    pub new_picture: bool,
    /// Tokens of the prompt behind the picture, none of which was asked before.
    pub prompt: u32,
    pub answer: u32,
}

/// Numbers that look random (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is more than 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 up to 1.
    pub fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of an exponential distribution with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.part()).ln()
    }

    /// A number of tokens: from a quarter of the mean up to seven quarters, all alike.
    pub fn tokens(&mut self, mean: u32) -> u32 {
        let least = (mean / 4).max(1);
        least + self.below(u64::from(2 * (mean.max(1) - least) + 1)) as u32
    }
}
