//! Where a session's pictures and conversations are to be at home: one rule for the cards of a machine and for machines.

/// A worker that can take one more session, as far as placement looks at it. The least is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Questions accepted and not yet answered: who comes waits for these.
    pub open: u64,
    /// Sessions at home there: each may ask at any time.
    pub sessions: u64,
}

/// The place, among the candidates, of the one that a new session goes to: where the fewest questions are open, then where
/// the fewest sessions are at home, then the first. `None` if there is no candidate.
///
/// A session stays where it is, since what is known of its pictures is there; this is for newcomers, and for those whose
/// home is gone.
pub fn home(candidates: impl IntoIterator<Item = Candidate>) -> Option<usize> {
    let least = candidates.into_iter().enumerate().min_by_key(|(_, it)| *it);
    least.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_questions_decide_then_the_fewest_sessions_then_the_order() {
        for (candidates, best) in [
            (&[][..], None),
            (&[(9, 9)], Some(0)),
            (&[(1, 0), (0, 9)], Some(1)),
            (&[(1, 2), (1, 1), (1, 1)], Some(1)),
            (&[(0, 0), (0, 0)], Some(0)),
        ] {
            let all = candidates
                .iter()
                .map(|&(open, sessions)| Candidate { open, sessions });
            assert_eq!(home(all), best, "{candidates:?}");
        }
    }

    #[test]
    fn newcomers_spread_evenly() {
        let mut workers = [Candidate::default(); 7];
        for _ in 0..700 {
            let at = home(workers).unwrap();
            workers[at].sessions += 1;
        }
        assert!(workers.iter().all(|it| it.sessions == 100), "{workers:?}");
    }
}
