//! Who uses which page of the KV cache.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// The pages of the cache, by number. Not the memory itself: that is [`model::kernels::Arena`].
pub struct PagePool {
    pages: usize,
    free: Rc<RefCell<Vec<u32>>>,
}

/// One user's hold on a page. A clone is one more user; the page is free when the last is dropped.
#[derive(Clone, Debug)]
pub struct Page {
    /// Beside what is counted, since it is read all the time.
    number: u32,
    used: Rc<Used>,
}

#[derive(Debug)]
struct Used {
    number: u32,
    free: Rc<RefCell<Vec<u32>>>,
}

/// A page that somebody else holds, as long as that is so.
#[derive(Clone, Debug)]
pub struct HeldPage(Weak<Used>);

impl HeldPage {
    /// Its number, unless it is free by now.
    pub fn number(&self) -> Option<u32> {
        self.0.upgrade().map(|used| used.number)
    }
}

impl PagePool {
    pub fn new(pages: usize) -> Self {
        PagePool {
            pages,
            // Low pages first, so that memory is touched only as it is needed.
            free: Rc::new(RefCell::new((0..pages as u32).rev().collect())),
        }
    }

    /// A page, or `None` when all are used.
    pub fn take(&self) -> Option<Page> {
        let number = self.free.borrow_mut().pop()?;
        let free = self.free.clone();
        let used = Rc::new(Used { number, free });
        Some(Page { number, used })
    }

    /// So many pages, or none where there are not so many.
    pub fn take_all(&self, pages: usize) -> Option<Vec<Page>> {
        let enough = self.free.borrow().len() >= pages;
        enough.then(|| (0..pages).filter_map(|_| self.take()).collect())
    }

    /// Pages with users.
    pub fn used(&self) -> usize {
        self.pages - self.free.borrow().len()
    }
}

impl Page {
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The page without a hold on it.
    pub fn watch(&self) -> HeldPage {
        HeldPage(Rc::downgrade(&self.used))
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.free.borrow_mut().push(self.number);
    }
}

/// The pages' numbers, by which the model is told of them.
pub fn numbers(pages: &[Page]) -> Vec<u32> {
    pages.iter().map(Page::number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_free_when_its_last_user_is_gone() {
        let pool = PagePool::new(2);
        let a = pool.take().unwrap();
        let again = a.clone();
        let b = pool.take().unwrap();
        assert!(pool.take().is_none());
        drop((a, b));
        assert_eq!(pool.used(), 1);
        assert_eq!(pool.take().unwrap().number(), 1);
        drop(again);
        assert_eq!(pool.used(), 0);
    }
}
