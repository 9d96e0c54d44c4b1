//! The parts of the page.

mod answer;
mod composer;
mod conversation;
mod dialogs;
mod icon;
mod picture;
mod top;

pub use composer::{Composer, focus_question};
pub use conversation::Conversation;
pub use dialogs::Dialogs;
pub use picture::{PicturePane, take};
pub use top::{Notices, TopBar};
