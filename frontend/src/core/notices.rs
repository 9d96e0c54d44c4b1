//! Short words to the person.

use super::{
    effect::{Effects, Timer},
    watched::Watched,
};

/// How long a notice stands.
const STANDS_MS: f64 = 6_000.0;

/// A short word that goes by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    id: u64,
    pub text: String,
    pub bad: bool,
}

#[derive(Debug, Default)]
pub struct Notices {
    pub shown: Watched<Option<Notice>>,
    /// What a screen reader should say next.
    pub aloud: Watched<String>,
    count: u64,
}

impl Notices {
    /// Shows `text` for a while, in the place of what stood there.
    pub fn say(&mut self, text: impl Into<String>, bad: bool, out: &mut Effects) {
        self.count += 1;
        self.shown.set(Some(Notice {
            id: self.count,
            text: text.into(),
            bad,
        }));
        out.after(STANDS_MS, Timer::Notice(self.count));
    }

    /// The notice of this number has stood long enough.
    pub fn over(&mut self, id: u64) {
        if self.shown.as_ref().is_some_and(|notice| notice.id == id) {
            self.shown.set(None);
        }
    }

    pub fn say_aloud(&mut self, text: &str) {
        self.aloud.set(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_goes_with_its_own_time_and_not_with_an_earlier_ones() {
        let (mut notices, mut out) = (Notices::default(), Effects::default());
        notices.say("one", false, &mut out);
        notices.say("two", true, &mut out);
        notices.over(1);
        assert_eq!(notices.shown.as_ref().map(|n| n.text.as_str()), Some("two"));
        notices.over(2);
        assert_eq!(*notices.shown, None);
    }
}
