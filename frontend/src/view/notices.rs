//! Short words that go by themselves, and what a screen reader is told.

use leptos::prelude::*;

use crate::io::App;

#[component]
pub fn Notices() -> impl IntoView {
    let app = App::here();
    let region = NodeRef::<leptos::html::Div>::new();
    Effect::new(move |_| {
        let said = app.aloud().get();
        let (Some(region), false) = (region.get(), said.trim().is_empty()) else {
            return;
        };
        if let Ok(line) = document().create_element("p") {
            line.set_text_content(Some(&said));
            let _ = region.append_child(&line);
        }
        while region.child_element_count() > 12 {
            if let Some(first) = region.first_element_child() {
                first.remove();
            }
        }
    });
    view! {
        <div class="offscreen" role="log" aria-live="polite" data-testid="said" node_ref=region></div>
        <div class="notices" role="status">
            {move || app.notice().get().map(|n| view! { <p class="notice" class:bad=n.bad data-testid="notice">{n.text}</p> })}
        </div>
    }
}
