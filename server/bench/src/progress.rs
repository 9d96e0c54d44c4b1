//! How far a measurement is, for whoever waits for it.

use indicatif::{ProgressBar, ProgressStyle};

pub fn progress(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
