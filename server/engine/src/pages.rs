//! Who uses which page of the KV cache.

/// Counts the users of each page of the arena. Not the memory itself: that is [`model::kernels::Arena`].
pub struct PagePool {
    users: Vec<u32>,
    free: Vec<u32>,
}

impl PagePool {
    pub fn new(pages: usize) -> Self {
        // Low pages first, so that memory is touched only as it is needed.
        PagePool {
            users: vec![0; pages],
            free: (0..pages as u32).rev().collect(),
        }
    }

    /// A page for one user, or `None` when all are used.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.users[page as usize] = 1;
        Some(page)
    }

    /// One more user for each of `pages`.
    pub fn share(&mut self, pages: &[u32]) {
        for page in pages {
            debug_assert!(self.users[*page as usize] > 0);
            self.users[*page as usize] += 1;
        }
    }

    /// One user less; a page without users is free.
    pub fn release(&mut self, pages: &[u32]) {
        for page in pages {
            let users = &mut self.users[*page as usize];
            debug_assert!(*users > 0);
            *users -= 1;
            if *users == 0 {
                self.free.push(*page);
            }
        }
    }

    /// Pages with users.
    pub fn used(&self) -> usize {
        self.users.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_free_when_its_last_user_is_gone() {
        let mut pool = PagePool::new(2);
        let a = pool.take().unwrap();
        pool.share(&[a]);
        let b = pool.take().unwrap();
        assert_eq!(pool.take(), None);
        pool.release(&[a, b]);
        assert_eq!(pool.used(), 1);
        pool.release(&[a]);
        assert_eq!(pool.used(), 0);
    }
}
