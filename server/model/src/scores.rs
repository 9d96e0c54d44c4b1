//! The scores of next tokens, and how many of them are asked for.

/// How many of a table's scores are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One for each id.
    All,
    /// Those of so many most probable tokens, from 1 to [`Wanted::MOST`].
    Largest(usize),
}

impl Wanted {
    /// The most that it pays to ask for by their number.
    pub const MOST: usize = 128;
}

/// A sequence of a pass whose next token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which of the pass's spans it is.
    pub span: usize,
    pub wanted: Wanted,
}

impl Chosen {
    /// A span with all of its scores.
    pub fn all(span: usize) -> Self {
        Chosen {
            span,
            wanted: Wanted::All,
        }
    }
}

/// The scores of a sequence's next token.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// One for each id of the model's table.
    All(Vec<f32>),
    Largest(Largest),
}

impl Scores {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Scores::All(scores) => scores.len(),
            Scores::Largest(largest) => largest.scores.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All scores of a table that reach some bound: as many as were asked for, and perhaps some more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Largest {
    /// In ascending order.
    pub ids: Vec<u32>,
    /// Of each id.
    pub scores: Vec<f32>,
}

impl Largest {
    /// Scores with their ids, in any order.
    pub fn new(mut found: Vec<(u32, f32)>) -> Self {
        found.sort_unstable_by_key(|(id, _)| *id);
        let (ids, scores) = found.into_iter().unzip();
        Largest { ids, scores }
    }
}
