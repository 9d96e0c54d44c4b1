//! What a worker's device takes for each stage: a file that was measured.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The files that come with the program.
const KNOWN: [(&str, &str); 3] = [
    ("h100", include_str!("../cards/h100.json")),
    ("h200", include_str!("../cards/h200.json")),
    ("24gb", include_str!("../cards/24gb.json")),
];

/// The stage times of a device with a model on it, and what it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Card {
    pub name: String,
    /// How the figures were found: a command, and where they stand.
    pub measured: String,
    /// Which of them were not measured, and what they are taken from; empty if all were.
    #[serde(default)]
    pub estimated: String,
    /// What an hour of it costs, in any currency.
    pub price_per_hour: f64,
    /// When and whose that price was.
    pub price_of: String,
    /// Answers at once.
    pub slots: usize,
    /// Questions that wait at most.
    pub queue: usize,
    /// Pages of the KV cache, and of the host's memory for answers that make room.
    pub pages: usize,
    pub host_pages: usize,
    /// Entries of a picture with what stands around it.
    pub opening_entries: u16,
    /// What a decode step of so many answers takes, in milliseconds, each with `step_entries` entries in the cache.
    pub step_ms: Vec<(usize, f64)>,
    pub step_entries: usize,
    /// What an entry more or less changes of that, in nanoseconds.
    pub entry_ns: u64,
    /// What a pass over so many rows of prompts takes while nobody decodes, in milliseconds.
    pub prompt_ms: Vec<(usize, f64)>,
    /// The vision tower, in milliseconds, its stages, and the rows of each.
    pub tower_ms: f64,
    pub tower_stages: usize,
    pub stage_rows: usize,
    /// The picture's entries through the decoder, in milliseconds, and the decoder's layers.
    pub prefill_ms: f64,
    pub layers: usize,
    /// A page's way to the host's memory or back, in microseconds.
    pub page_move_us: f64,
}

impl Card {
    /// One of those that come with the program, by its name, or a file.
    ///
    /// # Errors
    /// A sentence, if there is none or it makes no sense.
    pub fn read(name: &str) -> Result<Self, String> {
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        let text = match known {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(Path::new(name))
                .map_err(|e| format!("{name}: {e}: h100, h200, 24gb or a file with stage times"))?,
        };
        let card: Card = serde_json::from_str(&text).map_err(|e| format!("{name}: {e}"))?;
        card.checked().map_err(|what| format!("{name}: {what}"))
    }

    fn checked(self) -> Result<Self, String> {
        let curve = |points: &[(usize, f64)]| {
            let rises = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
            !points.is_empty() && rises && points.iter().all(|(n, ms)| *n > 0 && *ms > 0.0)
        };
        let counts = [self.slots, self.tower_stages, self.stage_rows, self.layers];
        let opening = usize::from(self.opening_entries).div_ceil(model::kernels::PAGE);
        match () {
            () if !curve(&self.step_ms) => {
                Err("step_ms has to be a list of [answers, ms], in their order")
            }
            () if !curve(&self.prompt_ms) => {
                Err("prompt_ms has to be a list of [rows, ms], in their order")
            }
            () if counts.contains(&0) => {
                Err("slots, tower_stages, stage_rows and layers are 1 at least")
            }
            () if self.pages <= 2 * opening => Err("pages has to be more than two pictures take"),
            () if !(self.tower_ms > 0.0 && self.prefill_ms > 0.0) => {
                Err("tower_ms and prefill_ms have to be more than 0")
            }
            () => Ok(self),
        }
        .map_err(str::to_owned)
    }
}

/// The same in whole nanoseconds, so that it adds up alike in any order.
#[derive(Clone, Debug)]
pub struct StageTimes {
    /// By answers, from one on.
    step: Vec<u64>,
    step_entries: u64,
    entry: u64,
    prompt: Vec<(u64, u64)>,
    tower: u64,
    tower_rows: u64,
    picture: u64,
    picture_entries: u64,
    layers: u64,
    page_move: u64,
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round().max(0.0) as u64
}

/// A value between the points of a curve; beyond the last two it goes on as they do.
fn between(points: &[(u64, u64)], at: u64) -> u64 {
    let right = points.partition_point(|(x, _)| *x < at);
    let (a, b) = match points {
        [] => return 0,
        [only] => return only.1,
        _ => {
            let right = right.clamp(1, points.len() - 1);
            (points[right - 1], points[right])
        }
    };
    let (dx, dy) = (b.0 as i128 - a.0 as i128, b.1 as i128 - a.1 as i128);
    let y = a.1 as i128 + (at as i128 - a.0 as i128) * dy / dx.max(1);
    // A few rows less than were measured are no quicker: all weights are read for them.
    let least = if at < points[0].0 { points[0].1 } else { 0 };
    u64::try_from(y).unwrap_or(0).max(least)
}

impl StageTimes {
    pub fn new(card: &Card) -> Self {
        let curve = |points: &[(usize, f64)]| -> Vec<(u64, u64)> {
            points.iter().map(|(n, ms)| (*n as u64, ns(*ms))).collect()
        };
        let step = curve(&card.step_ms);
        StageTimes {
            step: (1..=card.slots as u64).map(|n| between(&step, n)).collect(),
            step_entries: card.step_entries as u64,
            entry: card.entry_ns,
            prompt: curve(&card.prompt_ms),
            tower: ns(card.tower_ms),
            tower_rows: (card.tower_stages * card.stage_rows) as u64,
            picture: ns(card.prefill_ms),
            picture_entries: card.opening_entries.into(),
            layers: card.layers as u64,
            page_move: ns(card.page_move_us / 1e3),
        }
    }

    /// A decode step of so many answers with as many entries as were measured.
    pub fn reference(&self, answers: usize) -> u64 {
        let last = self.step.len().saturating_sub(1);
        self.step
            .get(answers.saturating_sub(1).min(last))
            .copied()
            .unwrap_or(0)
    }

    /// A pass that goes on with so many answers, which have `entries` in the cache together, and takes `rows` rows of prompts along.
    pub fn pass(&self, answers: usize, entries: usize, rows: usize) -> u64 {
        let usual = answers as u64 * self.step_entries;
        let entries = entries as u64;
        let more = entries.saturating_sub(usual) * self.entry;
        let less = usual.saturating_sub(entries) * self.entry;
        let step = match answers {
            0 => 0,
            _ => (self.reference(answers) + more)
                .saturating_sub(less)
                .max(self.reference(answers) / 2),
        };
        let prompt = match rows {
            0 => 0,
            _ => between(&self.prompt, rows as u64),
        };
        match answers {
            0 => prompt,
            // The weights are read once for both.
            _ => step + prompt.saturating_sub(self.reference(1)),
        }
    }

    /// So many rows of the tower's stages.
    pub fn tower(&self, rows: u64) -> u64 {
        (u128::from(self.tower) * u128::from(rows) / u128::from(self.tower_rows)) as u64
    }

    /// So many of the decoder's layers for so many of a picture's entries.
    pub fn picture(&self, entries: usize, layers: usize) -> u64 {
        let part = entries as u128 * layers as u128;
        let all = u128::from(self.picture_entries) * u128::from(self.layers);
        (u128::from(self.picture) * part / all.max(1)) as u64
    }

    /// Pages' way to the host's memory or back.
    pub fn moved(&self, pages: usize) -> u64 {
        self.page_move * pages as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_what_comes_out() {
        for (name, _) in KNOWN {
            let card = Card::read(name).unwrap();
            let times = StageTimes::new(&card);
            for (answers, ms) in &card.step_ms {
                let took = times.pass(*answers, answers * card.step_entries, 0);
                assert_eq!(took, ns(*ms), "{name}");
            }
            for (rows, ms) in &card.prompt_ms {
                assert_eq!(times.pass(0, 0, *rows), ns(*ms), "{name}");
            }
            let rows = card.tower_stages * card.stage_rows;
            assert_eq!(times.tower(rows as u64), ns(card.tower_ms), "{name}");
            let entries = card.opening_entries.into();
            assert_eq!(
                times.picture(entries, card.layers),
                ns(card.prefill_ms),
                "{name}"
            );
        }
    }

    #[test]
    fn a_curve_is_straight_between_its_points_and_beyond() {
        let points = [(10, 100), (20, 200)];
        let at = [5, 10, 15, 30].map(|x| between(&points, x));
        assert_eq!(at, [100, 100, 150, 300]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_told_of() {
        let mut card = Card::read("h100").unwrap();
        card.step_ms.clear();
        assert!(card.checked().unwrap_err().contains("step_ms"));
        assert!(
            Card::read("no such card")
                .unwrap_err()
                .contains("h100, h200, 24gb")
        );
    }
}
