//! A value that notes that it was changed, for whoever draws it.

use std::ops::{Deref, DerefMut};

/// A value, and whether somebody has had hold of it to change it since [`Watched::take_change`] was asked last.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: T,
    changed: bool,
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Self {
        Watched {
            value,
            changed: false,
        }
    }

    pub fn set(&mut self, value: T) {
        *self = Watched {
            value,
            changed: true,
        };
    }

    /// To change what is told in another way.
    pub fn untold(&mut self) -> &mut T {
        &mut self.value
    }

    /// Whether it was changed; that is told once.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Watched<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_reading_is_none() {
        let mut words = Watched::new(vec!["a"]);
        assert_eq!(words.len(), 1);
        assert!(!words.take_change());
        words.push("b");
        assert!(words.take_change() && !words.take_change());
        words.untold().push("c");
        assert!(!words.take_change());
        words.set(Vec::new());
        assert!(words.take_change() && words.is_empty());
    }
}
