//! The turns of a conversation. Each stands behind its parent; those with the same parent are versions of each other, one of
//! which is on the page, with what stands behind it.

use super::{turn::Turn, watched::Watched};

#[derive(Debug, Default)]
pub struct Tree {
    /// In the order in which they were asked.
    turns: Vec<Turn>,
    /// Those on the page, from the first to the leaf.
    path: Watched<Vec<u64>>,
    /// Those that were changed.
    touched: Vec<u64>,
}

impl Tree {
    /// All of these, with the way to `leaf` on the page, or else to the last.
    pub fn new(turns: Vec<Turn>, leaf: Option<u64>) -> Self {
        let mut tree = Tree {
            turns,
            ..Tree::default()
        };
        let last = tree.turns.last().map(|turn| turn.id);
        let leaf = leaf.filter(|id| tree.get(*id).is_some()).or(last);
        tree.path.set(tree.way(leaf));
        tree
    }

    pub fn path(&self) -> &Vec<u64> {
        &self.path
    }

    pub fn leaf(&self) -> Option<u64> {
        self.path.last().copied()
    }

    pub fn all(&self) -> &[Turn] {
        &self.turns
    }

    /// The turn of this number; the last ones are found first.
    pub fn get(&self, id: u64) -> Option<&Turn> {
        self.turns.iter().rev().find(|turn| turn.id == id)
    }

    /// The turns on the page.
    pub fn shown(&self) -> impl Iterator<Item = &Turn> {
        self.path.iter().filter_map(|id| self.get(*id))
    }

    pub fn is_shown(&self, id: u64) -> bool {
        self.path.contains(&id)
    }

    /// From the first turn to this one.
    fn way(&self, to: Option<u64>) -> Vec<u64> {
        let next = |turn: &&Turn| turn.parent.and_then(|id| self.get(id));
        let up = std::iter::successors(to.and_then(|id| self.get(id)), next);
        let mut way: Vec<_> = up.map(|turn| turn.id).collect();
        way.reverse();
        way
    }

    fn behind(&self, parent: Option<u64>) -> impl DoubleEndedIterator<Item = u64> {
        let behind = self.turns.iter().filter(move |turn| turn.parent == parent);
        behind.map(|turn| turn.id)
    }

    /// The versions of a turn, itself among them.
    pub fn versions(&self, id: u64) -> Vec<u64> {
        self.get(id)
            .map(|turn| self.behind(turn.parent).collect())
            .unwrap_or_default()
    }

    /// Whether a turn is this one or stands behind it.
    pub fn is_within(&self, id: u64, top: u64) -> bool {
        self.way(Some(id)).contains(&top)
    }

    /// Adds a turn and shows it.
    pub fn add(&mut self, turn: Turn) {
        let id = turn.id;
        self.turns.push(turn);
        self.show_leaf(Some(id));
    }

    /// Shows a turn, and what was asked last behind it.
    pub fn show(&mut self, id: u64) {
        let last = std::iter::successors(Some(id), |id| self.behind(Some(*id)).next_back()).last();
        self.show_leaf(last);
    }

    /// Shows the way to a turn and nothing behind it.
    pub fn show_leaf(&mut self, leaf: Option<u64>) {
        let way = self.way(leaf);
        if way != *self.path {
            self.path.set(way);
        }
    }

    /// Takes a turn away that nothing stands behind; whether it was one.
    pub fn remove(&mut self, id: u64) -> bool {
        let bare = self.behind(Some(id)).next().is_none();
        if bare {
            self.turns.retain(|turn| turn.id != id);
            let path = self.path.iter().copied().filter(|on| *on != id).collect();
            self.path.set(path);
        }
        bare
    }

    /// A turn, to be changed.
    pub fn change(&mut self, which: impl Fn(&Turn) -> bool) -> Option<&mut Turn> {
        let turn = self.turns.iter_mut().rev().find(|turn| which(turn))?;
        if self.touched.last() != Some(&turn.id) {
            self.touched.push(turn.id);
        }
        Some(turn)
    }

    /// All turns that are open, to be changed.
    pub fn change_open(&mut self, mut change: impl FnMut(&mut Turn)) {
        for turn in self.turns.iter_mut().filter(|turn| turn.phase.open()) {
            self.touched.push(turn.id);
            change(turn);
        }
    }

    /// Whether other turns are on the page than before; that is told once.
    pub fn take_change(&mut self) -> bool {
        self.path.take_change()
    }

    /// All of it is drawn anew.
    pub fn all_anew(&mut self) {
        self.touched.clear();
        let path = std::mem::take(self.path.untold());
        self.path.set(path);
    }

    /// The turns that were changed; that is told once.
    pub fn take_touched(&mut self, mut tell: impl FnMut(&mut Turn)) {
        for id in std::mem::take(&mut self.touched) {
            if let Some(turn) = self.turns.iter_mut().rev().find(|turn| turn.id == id) {
                tell(turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(id: u64, parent: Option<u64>) -> Turn {
        Turn {
            parent,
            ..Turn::new(id, format!("{id}?"), 0.0)
        }
    }

    /// 1 with 2 and 3 behind it one after the other, and 4 as another version of 2.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        for (id, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1))] {
            tree.add(turn(id, parent));
        }
        tree
    }

    #[test]
    fn a_version_is_shown_with_what_stands_behind_it() {
        let mut tree = tree();
        assert_eq!(*tree.path(), [1, 4]);
        assert_eq!(tree.versions(4), [2, 4]);
        tree.show(2);
        assert_eq!(*tree.path(), [1, 2, 3]);
        assert_eq!(tree.versions(3), [3]);
        assert!(tree.is_within(3, 2) && !tree.is_within(4, 2));
    }

    #[test]
    fn only_what_nothing_stands_behind_is_taken_away() {
        let mut tree = tree();
        assert!(!tree.remove(2));
        assert!(tree.remove(4));
        assert_eq!(*tree.path(), [1]);
        assert_eq!(tree.versions(2), [2]);
    }

    #[test]
    fn a_tree_comes_back_with_the_leaf_that_was_shown() {
        let all = || tree().turns;
        assert_eq!(*Tree::new(all(), Some(3)).path(), [1, 2, 3]);
        assert_eq!(*Tree::new(all(), None).path(), [1, 4]);
        assert_eq!(*Tree::new(all(), Some(99)).path(), [1, 4]);
        assert!(Tree::new(Vec::new(), Some(1)).path().is_empty());
    }

    #[test]
    fn a_turn_whose_parent_is_lost_ends_the_way() {
        // A record that was damaged must not keep the page from starting.
        let tree = Tree::new(vec![turn(5, Some(9))], None);
        assert_eq!(*tree.path(), [5]);
    }
}
