//! The parts of the page. They draw what the [`core`](crate::core) knows and forward what the person does; where they are, both
//! go through [`App`](crate::io::App), which is their context.

mod answer;
mod banners;
mod composer;
mod conversation;
mod dialogs;
mod editor;
mod history;
mod icon;
mod latency;
mod notices;
mod page;
mod patch;
mod picture;
mod settings;
mod top;
mod turn;
mod undos;
mod versions;

pub use page::mount;
