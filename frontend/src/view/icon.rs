use leptos::prelude::*;

/// A line icon on a 24 × 24 grid, in the colour of its text.
#[component]
pub fn Icon(
    /// The path's `d`.
    path: &'static str,
) -> impl IntoView {
    view! {
        <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false">
            <path d=path />
        </svg>
    }
}

pub const BEFORE: &str = "M14 7l-5 5 5 5";
pub const AFTER: &str = "M10 7l5 5-5 5";
pub const MINUS: &str = "M5 12h14";
pub const CLOSER: &str =
    "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M15.5 15.5L20 20M8 10.5h5M10.5 8v5";
pub const PLUS: &str = "M12 5v14M5 12h14";
pub const SEND: &str = "M12 19V5M6 11l6-6 6 6";
pub const STOP: &str = "M7 7h10v10H7z";
pub const IMAGE: &str = "M4 5h16v14H4zM4 16l5-5 5 5 2-2 4 4M15.5 9.5h.01";
pub const CAMERA: &str =
    "M4 8h4l1.5-2.5h5L16 8h4v11H4zM12 10a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4";
pub const COPY: &str = "M9 9h10v11H9zM5 15V4h10";
pub const AGAIN: &str = "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6";
pub const CLOSE: &str = "M6 6l12 12M18 6L6 18";
pub const TRASH: &str = "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13";
pub const CLOCK: &str = "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 8v4l3 2";
pub const SLIDERS: &str = "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4";
pub const DOWN: &str = "M12 5v14M6 13l6 6 6-6";
pub const MORE: &str = "M4.4 12a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0M11.4 12a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0M18.4 12a.6.6 0 1 0 1.2 0a.6.6 0 1 0-1.2 0";
pub const EDIT: &str = "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3";
