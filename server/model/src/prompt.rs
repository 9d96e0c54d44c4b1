//! A conversation as a model's cache holds it.

use std::ops::Range;

/// What stands at a place of the cache: a token, or a picture's row. One number, since thousands of them are compared for every
/// question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry(u32);

impl Entry {
    /// What no token's id has.
    const IS_ROW: u32 = 1 << 31;

    /// A token of the vocabulary, whose id is below 2^31.
    pub const fn token(id: u32) -> Self {
        Entry(id)
    }

    /// One of the rows that the model sees of the conversation's pictures, of which there are at most 32,768; both are counted
    /// from 0.
    pub const fn row(picture: u16, row: u16) -> Self {
        Entry(Self::IS_ROW | (picture as u32) << 16 | row as u32)
    }

    pub const fn is_row(self) -> bool {
        self.0 & Self::IS_ROW != 0
    }

    /// The token's id, where it is one.
    pub fn id(self) -> Option<u32> {
        (!self.is_row()).then_some(self.0)
    }
}

/// Entries, and where the model takes each to stand: a position is one number, or one for each of its axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    entries: Vec<Entry>,
    /// One for each axis of each entry.
    positions: Vec<u32>,
    axes: usize,
    /// Where the next token stands, on all axes.
    next: u32,
    picture_entries: usize,
    /// Entries up to the end of the last picture, and where the next one stands.
    opening: (usize, u32),
}

impl Prompt {
    /// An empty one, for a model whose positions have so many axes.
    pub fn new(axes: usize) -> Self {
        Prompt {
            entries: Vec::new(),
            positions: Vec::new(),
            axes,
            next: 0,
            picture_entries: 0,
            opening: (0, 0),
        }
    }

    /// The same, with room for so many more tokens.
    pub fn with_room(&self, tokens: usize) -> Self {
        let mut entries = Vec::with_capacity(self.entries.len() + tokens);
        let mut positions = Vec::with_capacity(self.positions.len() + tokens * self.axes);
        entries.extend_from_slice(&self.entries);
        positions.extend_from_slice(&self.positions);
        Prompt {
            entries,
            positions,
            ..*self
        }
    }

    /// Adds a token, one position further on all axes.
    pub fn push(&mut self, id: u32) {
        self.entries.push(Entry::token(id));
        let positions = std::iter::repeat_n(self.next, self.axes);
        self.positions.extend(positions);
        self.next += 1;
    }

    /// Adds tokens.
    pub fn extend(&mut self, ids: impl IntoIterator<Item = u32>) {
        let ids = ids.into_iter();
        let more = ids.size_hint().0;
        self.entries.reserve(more);
        self.positions.reserve(more * self.axes);
        ids.for_each(|id| self.push(id));
    }

    /// Adds a picture's rows, each at what is added to the position that a token would have; the next token stands `step`
    /// further.
    pub fn push_rows<'a>(
        &mut self,
        picture: u16,
        offsets: impl IntoIterator<Item = &'a [u32]>,
        step: u32,
    ) {
        for (row, offset) in (0..).zip(offsets) {
            self.entries.push(Entry::row(picture, row));
            let positions = offset[..self.axes].iter().map(|offset| self.next + offset);
            self.positions.extend(positions);
        }
        self.next += step;
    }

    /// A picture ends here, which has so many of the entries: beside its rows what belongs to it.
    pub fn end_picture(&mut self, entries: usize) {
        self.picture_entries += entries;
        self.opening = (self.entries.len(), self.next);
    }

    /// How many entries there are up to the end of the last picture. Behind them all are tokens; they themselves come of the
    /// picture that was encoded.
    pub fn opening_entries(&self) -> usize {
        self.opening.0
    }

    /// The entries up to the end of the last picture.
    pub fn opening(&self) -> Prompt {
        let (entries, next) = self.opening;
        Prompt {
            entries: self.entries[..entries].to_vec(),
            positions: self.positions[..entries * self.axes].to_vec(),
            next,
            ..*self
        }
    }

    /// How many numbers a position has.
    pub fn axes(&self) -> usize {
        self.axes
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The positions of a range of entries: one number for each axis of each.
    pub fn positions(&self, entries: Range<usize>) -> &[u32] {
        &self.positions[entries.start * self.axes..entries.end * self.axes]
    }

    /// How many of the model's positions it takes.
    pub fn used(&self) -> usize {
        self.next as usize
    }

    /// How many of the entries are pictures'.
    pub fn picture_entries(&self) -> usize {
        self.picture_entries
    }
}

/// The ids of entries that are all tokens; `None` if one isn't.
pub fn tokens<T: FromIterator<u32>>(entries: &[Entry]) -> Option<T> {
    entries.iter().map(|entry| entry.id()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_the_model_says() {
        let mut prompt = Prompt::new(1);
        prompt.extend([7, 8]);
        prompt.push_rows(0, [&[0][..]; 3], 1);
        let mut opening = prompt.clone();
        opening.end_picture(3);
        prompt.end_picture(3);
        prompt.push(9);
        assert_eq!((prompt.opening_entries(), prompt.opening()), (5, opening));
        assert_eq!(prompt.positions(0..6), [0, 1, 2, 2, 2, 3]);
        assert_eq!(prompt.positions(4..6), [2, 3]);
        assert_eq!((prompt.used(), prompt.entries().len()), (4, 6));
        assert_eq!(prompt.entries()[4], Entry::row(0, 2));
        assert_eq!(tokens(&prompt.entries()[..2]), Some(vec![7, 8]));
        assert_eq!(tokens::<Vec<u32>>(prompt.entries()), None);
    }

    /// Time, height and width: 2 × 2 rows of a second picture.
    #[test]
    fn a_position_may_have_three_axes() {
        let mut prompt = Prompt::new(3);
        prompt.push(7);
        let offsets: [&[u32]; 4] = [&[0, 0, 0], &[0, 0, 1], &[0, 1, 0], &[0, 1, 1]];
        prompt.push_rows(1, offsets, 2);
        prompt.push(8);
        assert_eq!(prompt.positions(0..1), [0, 0, 0]);
        assert_eq!(prompt.positions(3..6), [1, 2, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(prompt.used(), 4);
    }
}
