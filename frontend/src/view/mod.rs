//! The parts of the page. They draw what the [`core`](crate::core) knows and forward what the person does; where they are, both
//! go through [`App`](crate::io::App), which is their context.

mod answer;
mod banners;
mod composer;
mod conversation;
mod demo;
mod dialogs;
mod editor;
mod history;
mod icon;
mod keys;
mod latency;
mod notices;
mod page;
mod picture;
mod settings;
mod top;
mod turn;
mod undos;
mod versions;
mod viewer;

pub use page::mount;
