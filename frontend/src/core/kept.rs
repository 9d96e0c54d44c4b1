//! A conversation in the store.

/// A conversation as it is kept, without its picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    pub id: String,
    /// When it last changed, milliseconds since 1970.
    pub at: f64,
    /// The picture's name and length.
    pub name: String,
    pub bytes: u64,
    pub turns: Vec<wire::Turn>,
    /// Questions that had no whole answer yet.
    pub asking: Vec<String>,
}

impl Kept {
    /// What stands for it in a list: the first question.
    pub fn title(&self) -> &str {
        let asked = self.turns.first().map(|turn| &turn.question);
        asked.or(self.asking.first()).unwrap_or(&self.name)
    }
}
