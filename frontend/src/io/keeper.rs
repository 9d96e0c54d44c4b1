//! What is to be done in the store, one after the other: what is older never overwrites what is newer.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use wasm_bindgen_futures::spawn_local;

use super::store::{self, Change, Writing};
use crate::core::{self, connection::Heard};

#[derive(Clone)]
pub enum Job {
    Keep(Writing, Heard),
    Change(Change),
}

#[derive(Clone, Default)]
pub struct Keeper {
    /// The first is being done.
    queue: Rc<RefCell<VecDeque<Job>>>,
}

impl Keeper {
    /// Has this done; `tell` hears how it went.
    pub fn take(&self, job: Job, tell: impl Fn(core::Store) + 'static) {
        {
            let mut queue = self.queue.borrow_mut();
            let replaced = queue.len() > 1 && queue.back().is_some_and(|last| outdated(last, &job));
            if replaced {
                queue.pop_back();
            }
            queue.push_back(job);
            if queue.len() > 1 {
                return;
            }
        }
        let queue = self.queue.clone();
        spawn_local(async move {
            let next = || queue.borrow().front().cloned();
            while let Some(job) = next() {
                let told = done(job).await;
                queue.borrow_mut().pop_front();
                tell(told);
            }
        });
    }
}

/// Whether a job that was not begun is done with a later one.
fn outdated(job: &Job, later: &Job) -> bool {
    match (job, later) {
        (Job::Keep(one, _), Job::Keep(other, _)) => one.kept.id == other.kept.id,
        _ => false,
    }
}

async fn done(job: Job) -> core::Store {
    match job {
        Job::Keep(writing, event) => {
            let kept = store::keep(&writing).await;
            let id = writing.kept.id;
            match kept {
                Ok(()) => core::Store::Kept { id, event },
                Err(why) => core::Store::NotKept { id, event, why },
            }
        }
        Job::Change(change) => {
            // Refused storage holds nothing that would have to be changed.
            let _ = store::change(&change).await;
            core::Store::Changed
        }
    }
}
