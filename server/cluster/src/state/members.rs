//! Who computes, as a gateway sees it: who is there, who is lost, who may take more.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use api::State;

use crate::message::{Beat, Registration};

/// How long a worker may be silent.
pub const SILENCE: Duration = Duration::from_secs(3);

/// How long one that is not heard stays in the registry.
const STALE: Duration = Duration::from_secs(600);

/// How many times its longest turn so far a turn may take.
const LONGEST: u32 = 10;

/// A worker.
pub struct Member {
    pub registration: Registration,
    pub beat: Beat,
    /// When it was heard last. One that registered once and was killed since is in the registry still.
    heard: Option<Duration>,
    /// When it was in the registry first.
    found: Duration,
    /// Each device's turns, and since when their number stands, in milliseconds by the worker's clock.
    turns: HashMap<u32, (u64, f64)>,
    /// This gateway's questions that it has answered since it was heard.
    answered: u64,
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Here,
    /// It is silent, or stands still: what was at home there moves. It may come back.
    Lost,
    /// It has said that nothing more comes. A heartbeat that was on its way brings nothing back.
    Left,
    /// It has another model, or speaks another version: it is given nothing.
    Refused,
}

impl Member {
    /// Whether it may get more.
    pub fn is_open(&self) -> bool {
        let is_well = self.heard.is_some() && self.beat.trouble.is_none();
        self.standing == Standing::Here && is_well && !self.registration.draining
    }

    pub fn is_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether it has been heard since `came`.
    pub fn has_told_of(&self, came: Duration) -> bool {
        self.heard.is_some_and(|heard| came <= heard)
    }

    /// Questions of other gateways that it has accepted and not yet answered, as it said last. `told_of` are those of this
    /// gateway's questions that are still open there and that it had when it said so.
    pub fn others(&self, told_of: u64) -> u64 {
        let open: u64 = self.beat.devices.iter().map(|device| device.open).sum();
        open.saturating_sub(told_of + self.answered)
    }

    /// Why it is lost, if it is: `own` questions are this gateway's.
    fn fault(&self, own: u64, linked: Duration, now: Duration) -> Option<String> {
        let silent = now.saturating_sub(self.heard?.max(linked));
        if silent >= SILENCE {
            return Some(format!("silent for {:.1} s", silent.as_secs_f64()));
        }
        let alone = self.beat.devices.len() == 1;
        self.beat.devices.iter().find_map(|device| {
            let (turn, since) = self.turns.get(&device.worker)?;
            let stood = Duration::try_from_secs_f64((self.beat.at_ms - since) / 1e3);
            let stood = stood.unwrap_or_default();
            let longest = Duration::try_from_secs_f64(device.longest_turn_ms / 1e3);
            let patience = SILENCE.max(longest.unwrap_or_default().saturating_mul(LONGEST));
            let works = device.open > 0 || (alone && own > 0);
            (works && stood >= patience).then(|| {
                format!(
                    "its device {} stands at turn {turn} for {:.1} s",
                    device.worker,
                    stood.as_secs_f64()
                )
            })
        })
    }
}

/// What a change leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It may get something.
    Came(String),
    /// What was at home there moves; it may come back.
    Lost(String),
    /// Gone for good.
    Gone(String),
    /// What is at home there moves when it is no more in use.
    Drains(String),
}

/// All workers, by their instances.
pub struct Members {
    /// The version of messages that is spoken here.
    api: u32,
    all: BTreeMap<String, Member>,
    /// Since when this gateway's own link answers; `None` while it doesn't.
    linked: Option<Duration>,
}

impl Members {
    pub fn new(api: u32) -> Self {
        Members {
            api,
            all: BTreeMap::new(),
            linked: None,
        }
    }

    pub fn get(&self, instance: &str) -> Option<&Member> {
        self.all.get(instance)
    }

    pub fn all(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.all.iter()
    }

    /// The model that is served: the one that those have who are not refused, and have not left.
    fn served(&self) -> Option<&Registration> {
        let mut kept = self
            .all
            .values()
            .filter(|it| matches!(it.standing, Standing::Here | Standing::Lost));
        kept.next().map(|member| &member.registration)
    }

    /// A worker has registered, or changed what it said.
    pub fn registered(&mut self, registration: Registration, now: Duration) -> Vec<Change> {
        let instance = registration.instance.clone();
        let mut changes = Vec::new();
        if let Some(member) = self.all.get_mut(&instance) {
            let drains = registration.draining && !member.registration.draining;
            member.registration = registration;
            return drains
                .then_some(Change::Drains(instance))
                .into_iter()
                .collect();
        }
        // Another process has taken the name over.
        let same_name =
            |(_, member): &(&String, &Member)| member.registration.name == registration.name;
        if let Some(earlier) = self.all.iter().find(same_name).map(|(id, _)| id.clone()) {
            self.all.remove(&earlier);
            changes.push(Change::Gone(earlier));
        }
        let served = self.served().map(|it| it.fingerprint.clone());
        let name = &registration.name;
        let refusal = if registration.api != self.api {
            Some(format!(
                "it speaks version {}, and this gateway {}",
                registration.api, self.api
            ))
        } else if served
            .as_ref()
            .is_some_and(|it| *it != registration.fingerprint)
        {
            Some(
                "it has another model, or the same in other numbers: serve one model by a fleet"
                    .into(),
            )
        } else {
            None
        };
        let standing = match refusal {
            Some(why) => {
                tracing::error!(worker = %name, "a worker is refused: {why}");
                Standing::Refused
            }
            None => Standing::Here,
        };
        let member = Member {
            registration,
            beat: Beat::default(),
            heard: None,
            found: now,
            turns: HashMap::new(),
            answered: 0,
            standing,
        };
        self.all.insert(instance, member);
        changes
    }

    /// A name is no longer registered.
    pub fn unregistered(&mut self, name: &str) -> Option<Change> {
        let mut all = self.all.iter();
        let found = all.find(|(_, member)| member.registration.name == name);
        let instance = found.map(|(instance, _)| instance.clone())?;
        self.all.remove(&instance);
        tracing::info!(worker = %name, "a worker has left");
        Some(Change::Gone(instance))
    }

    /// A worker is alive.
    pub fn beat(&mut self, beat: Beat, own: u64, now: Duration) -> Option<Change> {
        let linked = self.linked.unwrap_or(now);
        let member = self.all.get_mut(&beat.instance)?;
        let first = member.heard.replace(now).is_none();
        for device in &beat.devices {
            let turns = member
                .turns
                .entry(device.worker)
                .or_insert((device.turn, beat.at_ms));
            if turns.0 != device.turn {
                *turns = (device.turn, beat.at_ms);
            }
        }
        member.beat = beat;
        member.answered = 0;
        let back = member.standing == Standing::Lost && member.fault(own, linked, now).is_none();
        let worker = &member.registration.name;
        match (back, first && member.standing == Standing::Here) {
            (true, _) => tracing::info!(%worker, "a worker is back"),
            (false, true) => tracing::info!(%worker, "a worker is here"),
            (false, false) => return None,
        }
        member.standing = Standing::Here;
        Some(Change::Came(member.registration.instance.clone()))
    }

    /// A worker has answered a question of this gateway's.
    pub fn answered(&mut self, instance: &str) {
        if let Some(member) = self.all.get_mut(instance) {
            member.answered += 1;
        }
    }

    /// Whether this gateway's own link answers.
    pub fn link(&mut self, answers: bool, now: Duration) {
        match (answers, self.linked) {
            (true, None) => self.linked = Some(now),
            (false, Some(_)) => {
                tracing::warn!("NATS does not answer: nobody is taken to be lost meanwhile");
                self.linked = None;
            }
            _ => {}
        }
    }

    pub fn is_linked(&self) -> bool {
        self.linked.is_some()
    }

    /// It has said that nothing more comes of it.
    pub fn left(&mut self, instance: &str) -> Option<Change> {
        self.leave(instance, Standing::Left, "it says so itself")
    }

    fn leave(&mut self, instance: &str, as_what: Standing, why: &str) -> Option<Change> {
        let member = self.all.get_mut(instance)?;
        let was = member.standing;
        if was == Standing::Refused {
            return None;
        }
        member.standing = as_what;
        if was != Standing::Here {
            return None;
        }
        tracing::warn!(worker = %member.registration.name, "a worker is lost: {why}");
        Some(Change::Lost(instance.to_owned()))
    }

    /// Those that are lost by now. `own` tells how many questions of this gateway each has.
    pub fn tick(&mut self, own: impl Fn(&str) -> u64, now: Duration) -> Vec<Change> {
        let Some(linked) = self.linked else {
            return Vec::new();
        };
        let here = self
            .all
            .iter()
            .filter(|(_, it)| it.standing == Standing::Here);
        let faults = here.filter_map(|(instance, member)| {
            let why = member.fault(own(instance), linked, now)?;
            Some((instance.clone(), why))
        });
        let faults: Vec<_> = faults.collect();
        let lost = faults
            .iter()
            .filter_map(|(instance, why)| self.leave(instance, Standing::Lost, why));
        lost.collect()
    }

    /// The names of those that have not been heard of for long, each once in a while.
    pub fn stale(&mut self, now: Duration) -> impl Iterator<Item = String> {
        let linked = self.linked;
        let stale = self.all.values_mut().filter_map(move |member| {
            let last = member
                .heard
                .unwrap_or_default()
                .max(member.found)
                .max(linked?);
            (now.saturating_sub(last) >= STALE).then(|| {
                member.found = now;
                member.registration.name.clone()
            })
        });
        stale.collect::<Vec<_>>().into_iter()
    }

    /// What all of them come to.
    pub fn state(&self) -> (State, Option<String>) {
        if self.all.values().any(Member::is_open) {
            return (State::Ready, None);
        }
        let mut troubles = self.all.values().filter_map(|it| it.beat.trouble.clone());
        if let Some(trouble) = troubles.next() {
            return (State::Loading, Some(trouble));
        }
        let why = match self.all.values().any(|it| it.standing != Standing::Refused) {
            true => "No worker answers: look at those that should (docs/fleet.md).",
            false => {
                "No worker is here: start `glimpse worker` with the same --nats (docs/fleet.md)."
            }
        };
        (State::Loading, Some(why.into()))
    }
}
