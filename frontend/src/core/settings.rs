//! What the person chose.

use serde::{Deserialize, Serialize};
use wire::Sampling;

/// Whether pictures are made smaller before they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Where the measured connection makes it quicker.
    #[default]
    Auto,
    Always,
    Original,
}

impl Scaling {
    pub const ALL: [Scaling; 3] = [Scaling::Auto, Scaling::Always, Scaling::Original];
}

/// Light or dark, or as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub const ALL: [Theme; 3] = [Theme::System, Theme::Light, Theme::Dark];

    /// A stable name, for styles.
    pub fn name(self) -> &'static str {
        match self {
            Theme::System => "system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// 0 is greedy; `None` is the checkpoint's own.
    pub temperature: Option<f64>,
    /// `None` is the checkpoint's own.
    pub top_p: Option<f64>,
    /// `None` is the checkpoint's own.
    pub max_new_tokens: Option<u64>,
    /// What every conversation begins with; blank where there is nothing.
    pub system: String,
    pub scaling: Scaling,
    pub theme: Theme,
    /// Conversations are kept in this browser.
    pub keep: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            temperature: None,
            top_p: None,
            max_new_tokens: None,
            system: String::new(),
            scaling: Scaling::Auto,
            theme: Theme::System,
            keep: true,
        }
    }
}

impl Settings {
    /// What goes with a question, within what the server allows.
    pub fn sampling(&self, most_tokens: u64) -> Option<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens.map(|n| n.clamp(1, most_tokens.max(1))),
            ..Sampling::default()
        };
        (sampling != Sampling::default()).then_some(sampling)
    }

    /// The system turn of a conversation, within what the server allows.
    pub fn system_turn(&self, most_chars: u64) -> Option<String> {
        let text = self.system.trim();
        let most = usize::try_from(most_chars).unwrap_or(usize::MAX);
        let cut = text
            .char_indices()
            .nth(most)
            .map_or(text.len(), |(at, _)| at);
        Some(text[..cut].to_owned()).filter(|text| !wire::is_blank(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_chosen_is_sent_and_within_what_the_server_allows() {
        assert_eq!(Settings::default().sampling(4096), None);
        let chosen = Settings {
            temperature: Some(0.0),
            top_p: Some(0.5),
            max_new_tokens: Some(9000),
            ..Settings::default()
        };
        let sampling = chosen.sampling(4096).unwrap();
        assert_eq!(sampling.temperature, Some(0.0));
        assert_eq!(sampling.max_new_tokens, Some(4096));
        assert_eq!((sampling.top_p, sampling.top_k), (Some(0.5), None));
    }

    #[test]
    fn the_system_turn_is_none_where_it_is_blank_and_never_longer_than_the_server_takes() {
        let with = |system: &str| Settings {
            system: system.to_owned(),
            ..Settings::default()
        };
        assert_eq!(Settings::default().system_turn(100), None);
        assert_eq!(with(" \n\u{200b}").system_turn(100), None);
        assert_eq!(with(" Ja. ").system_turn(100).as_deref(), Some("Ja."));
        assert_eq!(with("一二三").system_turn(2).as_deref(), Some("一二"));
    }

    #[test]
    fn settings_of_an_older_page_are_read() {
        let read: Settings = serde_json::from_str(r#"{"scaling": "always", "gone": 1}"#).unwrap();
        let wanted = Settings {
            scaling: Scaling::Always,
            ..Settings::default()
        };
        assert_eq!(read, wanted);
    }
}
