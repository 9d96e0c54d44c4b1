//! The state as signals: what draws a part of it hears when that part was changed, and reads it where it is.

use std::{cell::RefCell, collections::HashMap};

use leptos::prelude::*;

use crate::core::{
    Effects, Input, Now, State,
    conversation::TurnChange,
    state::{Change, Part},
    turn::{AnswerTimes, Turn, TurnPhase},
};

/// What is told seldom and listened to by views that come and go. An effect that goes stays on the list of what it listened
/// to until that is told again: so these are told with each new conversation.
const SELDOM: [Part; 6] = [
    Part::Lang,
    Part::Link,
    Part::Settings,
    Part::Limits,
    Part::Sampling,
    Part::FirstWords,
];

/// The state, and who waits for changes of it.
#[derive(Clone, Copy)]
pub struct Signals(StoredValue<Inner, LocalStorage>);

struct Inner {
    state: RefCell<State>,
    parts: [ArcTrigger; Part::COUNT],
    /// Some turn's phase.
    phases: ArcTrigger,
    /// Of the turns that are drawn.
    turns: RefCell<HashMap<u64, TurnTriggers>>,
    /// Stands for a turn that is on the page no more, while what drew it goes.
    gone: Turn,
}

#[derive(Clone, Default)]
struct TurnTriggers {
    phase: ArcTrigger,
    answer: ArcTrigger,
    times: ArcTrigger,
}

impl TurnTriggers {
    fn of(&self, change: TurnChange) -> &ArcTrigger {
        match change {
            TurnChange::Phase => &self.phase,
            TurnChange::Answer => &self.answer,
            TurnChange::Times => &self.times,
        }
    }
}

impl Signals {
    pub fn new(state: State) -> Self {
        Signals(StoredValue::new_local(Inner {
            state: RefCell::new(state),
            parts: std::array::from_fn(|_| ArcTrigger::new()),
            phases: ArcTrigger::new(),
            turns: RefCell::default(),
            gone: Turn::gone(),
        }))
    }

    /// Changes the state, and tells whoever draws what was changed.
    pub fn apply(self, input: Input, now: &Now) -> Effects {
        self.0.with_value(|inner| {
            let mut changes = Vec::new();
            let mut state = inner.state.borrow_mut();
            let effects = state.apply(input, now);
            state.take_changes(|change| changes.push(change));
            let anew =
                changes.contains(&Change::Of(Part::Turns)) && state.conversation.path().is_empty();
            drop(state);
            if anew {
                changes.extend(SELDOM.map(Change::Of));
            }
            for change in changes {
                inner.tell(change);
            }
            effects
        })
    }

    /// Something of the state, without listening to it.
    pub fn read<R>(self, f: impl FnOnce(&State) -> R) -> R {
        self.0.with_value(|inner| f(&inner.state.borrow()))
    }

    /// A part of the state, by the way to read it.
    pub fn lens<T>(self, part: Part, of: fn(&State) -> &T) -> Lens<T> {
        Lens {
            signals: self,
            part,
            of,
        }
    }

    /// Whether an answer is on its way; tracked.
    pub fn running(self) -> bool {
        self.0.with_value(|inner| {
            inner.parts[Part::Turns as usize].track();
            inner.phases.track();
            inner.state.borrow().conversation.running()
        })
    }

    /// The turn of this number, for the view that draws it, and as long as that is there.
    pub fn turn(self, id: u64) -> TurnHandle {
        self.0.with_value(|inner| {
            inner.turns.borrow_mut().insert(id, TurnTriggers::default());
        });
        on_cleanup(move || {
            self.0.with_value(|inner| {
                inner.turns.borrow_mut().remove(&id);
            });
        });
        TurnHandle { signals: self, id }
    }
}

impl Inner {
    fn tell(&self, change: Change) {
        match change {
            Change::Of(part) => self.parts[part as usize].notify(),
            Change::Turn(id, change) => {
                if change == TurnChange::Phase {
                    self.phases.notify();
                }
                let triggers = self.turns.borrow().get(&id).cloned();
                if let Some(triggers) = triggers {
                    triggers.of(change).notify();
                }
            }
        }
    }
}

/// A part of the state, to be read.
pub struct Lens<T: 'static> {
    signals: Signals,
    part: Part,
    of: fn(&State) -> &T,
}

impl<T> Clone for Lens<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lens<T> {}

impl<T> Lens<T> {
    /// Listens to it.
    pub fn track(self) {
        self.signals
            .0
            .with_value(|inner| inner.parts[self.part as usize].track());
    }

    /// Reads it, and listens to it.
    pub fn with<R>(self, f: impl FnOnce(&T) -> R) -> R {
        self.track();
        self.with_untracked(f)
    }

    pub fn with_untracked<R>(self, f: impl FnOnce(&T) -> R) -> R {
        self.signals.read(|state| f((self.of)(state)))
    }
}

impl<T: Clone> Lens<T> {
    pub fn get(self) -> T {
        self.with(T::clone)
    }

    pub fn get_untracked(self) -> T {
        self.with_untracked(T::clone)
    }
}

/// A turn, to be read by the view that draws it.
#[derive(Clone, Copy)]
pub struct TurnHandle {
    signals: Signals,
    id: u64,
}

impl TurnHandle {
    pub fn id(self) -> u64 {
        self.id
    }

    /// Reads something of it, without listening.
    pub fn read<R>(self, f: impl FnOnce(&Turn) -> R) -> R {
        self.signals.0.with_value(|inner| {
            let state = inner.state.borrow();
            f(state.conversation.turn(self.id).unwrap_or(&inner.gone))
        })
    }

    /// Listens to it.
    pub fn track(self, change: TurnChange) {
        self.signals.0.with_value(|inner| {
            let triggers = inner.turns.borrow().get(&self.id).cloned();
            if let Some(triggers) = triggers {
                triggers.of(change).track();
            }
        });
    }

    /// The turn's phase, tracked.
    pub fn phase<R>(self, f: impl FnOnce(&TurnPhase) -> R) -> R {
        self.track(TurnChange::Phase);
        self.read(|turn| f(&turn.phase))
    }

    /// The answer's times, tracked.
    pub fn times<R>(self, f: impl FnOnce(&AnswerTimes) -> R) -> R {
        self.track(TurnChange::Times);
        self.read(|turn| f(&turn.times))
    }
}
