//! The page of Glimpse. The same module runs twice: in the window it is the page, in a worker it reads, scales and
//! hashes pictures so that the page never waits for one.

mod actions;
mod app;
mod clock;
mod connection;
mod dom;
mod events;
mod exif;
mod history;
mod i18n;
mod latency;
mod markdown;
mod settings;
mod state;
mod store;
mod upload;
mod view;
mod worker;

fn main() {
    std::panic::set_hook(Box::new(|info| {
        web_sys::console::error_1(&info.to_string().into());
    }));
    if web_sys::window().is_some() {
        app::mount();
    } else {
        worker::run();
    }
}
