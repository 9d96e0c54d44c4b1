//! Questions and answers.

use leptos::{html::Div, prelude::*};
use wasm_bindgen::JsCast;
use web_sys::{Element, MouseEvent};

use super::{
    composer::go_on,
    icon::{DOWN, Icon},
    turn::TurnView,
};
use crate::{
    core::{Person, picture::Picture, suggestions::suggested},
    i18n::T,
    io::App,
};

/// Nearer to the end than this, the view follows it.
const AT_END: i32 = 48;

#[component]
pub fn Conversation() -> impl IntoView {
    let app = App::here();
    let scroller = NodeRef::<Div>::new();
    let at_end = RwSignal::new(true);
    // The last turn is further down than what is seen.
    let below = RwSignal::new(false);
    let running = Memo::new(move |_| app.running());
    let follow = Callback::new(move |()| {
        if let Some(element) = scroller.get_untracked().filter(|_| at_end.get_untracked()) {
            element.set_scroll_top(element.scroll_height());
        }
    });
    // A new question is always brought into view.
    Effect::new(move |_| {
        app.path().track();
        at_end.set(true);
        // By then all of this may be gone.
        request_animation_frame(move || {
            follow.try_run(());
        });
    });
    let scrolled = move |_| {
        if let Some(e) = scroller.get_untracked() {
            let now = e.scroll_height() - e.scroll_top() - e.client_height() < AT_END;
            if now != at_end.get_untracked() {
                at_end.set(now);
            }
            let turns = e.query_selector_all(":scope > .turn").ok();
            let last = turns.and_then(|turns| turns.get(turns.length().checked_sub(1)?));
            let top = |e: &Element| e.get_bounding_client_rect().top();
            let last = last.and_then(|last| last.dyn_into().ok());
            let beyond = e.get_bounding_client_rect().bottom() - f64::from(AT_END);
            let now = last.is_some_and(|last| top(&last) > beyond);
            if now != below.get_untracked() {
                below.set(now);
            }
        }
    };
    view! {
        <div class="turns" tabindex="0" role="region" aria-label=app.t(T::Conversation) node_ref=scroller on:scroll=scrolled>
            <For each=move || app.path().get() key=|id| *id let(id)>
                <TurnView turn=app.turn(id) grown=follow />
            </For>
            <Suggestions />
        </div>
        // Whoever reads in the last answer, or how long it took, is there already.
        <Show when=move || !at_end.get() && (running.get() || below.get())>
            <button
                class="quiet latest"
                data-testid="latest"
                on:click=move |_| {
                    at_end.set(true);
                    follow.run(());
                    go_on();
                }
            >
                <Icon path=DOWN />
                {app.t(T::Latest)}
            </button>
        </Show>
    }
}

/// What might be asked first.
#[component]
fn Suggestions() -> impl IntoView {
    let app = App::here();
    let suggestions = move || {
        let own = app.suggestions().get();
        if !own.is_empty() {
            return own;
        }
        let demo = app.model().with(|m| m.as_ref().is_some_and(|m| m.demo));
        let fit = app
            .picture()
            .with(|p| p.as_ref().map(|p| suggested(p, demo)));
        let texts = fit.into_iter().flatten();
        texts.map(|t| app.filled(t, &[])).collect()
    };
    let line = move |text: String| {
        let asked = text.clone();
        let ask = move |event: MouseEvent| {
            app.person(Person::Asks {
                text: asked.clone(),
                when: event.time_stamp(),
            });
        };
        view! { <li><button data-testid="suggestion" on:click=ask>{text}</button></li> }
    };
    let usable = |picture: &Picture| picture.failed().is_none();
    let shown = Memo::new(move |_| {
        app.path().with(Vec::is_empty) && app.picture().with(|p| p.as_ref().is_some_and(usable))
    });
    view! {
        {move || shown.get().then(|| view! {
            <section class="suggestions" aria-labelledby="first">
                <h2 id="first">{app.t(T::AskFirst)}</h2>
                <ul>{move || suggestions().into_iter().map(line).collect_view()}</ul>
            </section>
        })}
    }
}
