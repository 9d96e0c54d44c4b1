//! What moves: questions that their worker has no room for, and those of workers and gateways that are lost.

use super::{Event, Fleet, Question, REFUSALS, RETRY, SILENCE, seconds};
use crate::worker::Message;

impl Fleet<'_> {
    /// A worker has no room for a question, which goes on with its session.
    pub(super) fn refused(&mut self, request: u64, worker: u32) {
        let Some(question) = self.questions.get_mut(&request) else {
            return;
        };
        if question.worker != Some(worker) {
            return;
        }
        question.refused.push(worker);
        question.attempt += 1;
        let (id, full, moved) = (
            question.session,
            question.refused.len() >= REFUSALS,
            question.moved,
        );
        if full && moved {
            question.refused.clear();
        }
        self.leaves(request);
        match (full, moved) {
            (true, false) => self.over(request, false),
            (true, true) => self.push(self.now + RETRY, Event::Again(request)),
            (false, _) => {
                self.leave_home(id);
                self.send(request);
            }
        }
    }

    fn leave_home(&mut self, id: u32) {
        let session = &mut self.sessions[id as usize];
        let home = std::mem::take(&mut session.home);
        session.given = false;
        let picture = session.picture;
        if home > 0 {
            self.members[home as usize - 1].sessions -= 1;
            let forget = Message::Forget {
                session: id,
                picture,
            };
            self.mail_to(home - 1, id, forget);
        }
    }

    pub(super) fn loses(&mut self, worker: u32) {
        if !std::mem::take(&mut self.members[worker as usize].alive) {
            return;
        }
        self.tally.losses += 1;
        self.mail.push((worker, self.now + self.way, Message::Lose));
        let away = seconds(self.load.away).max(2 * SILENCE);
        self.push(self.now + away, Event::Back(worker));
    }

    /// A worker is silent: what it had goes on elsewhere.
    pub(super) fn missed(&mut self, worker: u32) {
        self.members[worker as usize].here = false;
        for session in &mut self.sessions {
            if session.home == worker + 1 {
                session.home = 0;
                session.given = false;
            }
        }
        self.members[worker as usize].sessions = 0;
        let there = |(_, question): &(&u64, &Question)| question.worker == Some(worker);
        let mut open: Vec<u64> = self
            .questions
            .iter()
            .filter(there)
            .map(|(id, _)| *id)
            .collect();
        open.sort_unstable();
        for request in open {
            self.leaves(request);
            if let Some(question) = self.questions.get_mut(&request) {
                question.attempt += 1;
                question.moved = true;
                self.tally.moved += 1;
            }
            self.send(request);
        }
    }

    /// The clients of a lost gateway come back: others take its sessions over, each with a record that claims it and a whole one.
    pub(super) fn taken_over(&mut self) {
        self.tally.gateways += 1;
        let gateways = self.own.len() as u32;
        let lost = (self.rng.below(u64::from(gateways))) as u32;
        for session in (lost..self.load.sessions).step_by(gateways as usize) {
            self.nats.records(session, self.now, 2.0);
        }
    }
}
