//! The page of Glimpse. The same module runs twice: in the window it is the page, in a worker it reads, scales and
//! hashes pictures so that the page never waits for one.

mod core;
mod i18n;
mod io;
mod view;
mod worker;

fn main() {
    std::panic::set_hook(Box::new(|info| {
        web_sys::console::error_1(&info.to_string().into());
    }));
    if web_sys::window().is_some() {
        view::mount();
    } else {
        worker::run();
    }
}
