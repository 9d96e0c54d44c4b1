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
pub use dialogs::{Dialogs, Open};
pub use picture::PicturePane;
pub use top::{Notices, TopBar};
