//! Where the question is typed.

use leptos::{html::Textarea, prelude::*};
use web_sys::KeyboardEvent;

use super::icon::{Icon, SEND, STOP};
use crate::{
    core::Person,
    i18n::T,
    io::{App, dom},
};

/// Puts the cursor into the question.
pub fn focus_question() {
    dom::focus("#question");
}

/// Whether there is a keyboard to type with: where there is none, a field with the cursor brings one up over half the page.
pub fn has_keys() -> bool {
    let fine = window().match_media("(pointer: fine)").ok().flatten();
    fine.is_some_and(|m| m.matches())
}

/// What had the cursor is gone: it goes to where the conversation goes on.
pub fn go_on() {
    dom::focus(if has_keys() { "#question" } else { ".turns" });
}

/// The rows of a field for this text: browsers without `field-sizing` grow it by hand.
pub fn lines(text: &str) -> u32 {
    text.matches('\n').count().clamp(0, 7) as u32 + 1
}

/// Whether an input method is at work (229: as older browsers say so).
fn composes(event: &KeyboardEvent) -> bool {
    event.is_composing() || event.key_code() == 229
}

/// Whether the key sends what is typed. Enter that ends an input method's composition belongs to it.
pub fn sends(event: &KeyboardEvent) -> bool {
    event.key() == "Enter" && !event.shift_key() && !composes(event)
}

#[component]
pub fn Composer() -> impl IntoView {
    let app = App::here();
    let field = NodeRef::<Textarea>::new();
    let send = move |when: f64| {
        app.person(Person::Sends { when });
        focus_question();
    };
    Effect::new(move |_| {
        let lines = app.draft().with(|text| lines(text));
        if let Some(field) = field.get() {
            field.set_rows(lines);
        }
    });
    let key = move |event: KeyboardEvent| {
        // A keyboard on the screen has no other way to break a line.
        if sends(&event) && has_keys() {
            event.prevent_default();
            send(event.time_stamp());
        } else if event.key() == "Escape" && !composes(&event) {
            app.person(Person::Stops);
        }
    };
    let running = Memo::new(move |_| app.running());
    let empty = Memo::new(move |_| app.draft().with(|text| wire::is_blank(text)));
    let hint = move || {
        let text = if app.card().with(Option::is_some) {
            T::Placeholder
        } else {
            T::PlaceholderEmpty
        };
        app.filled(text, &[])
    };
    view! {
        <form
            class="composer"
            on:submit=move |event| {
                event.prevent_default();
                send(event.time_stamp());
            }
        >
            <textarea
                id="question"
                rows="1"
                dir="auto"
                enterkeyhint=if has_keys() { "send" } else { "enter" }
                data-testid="question"
                aria-label=app.t(T::Question)
                placeholder=hint
                node_ref=field
                prop:value=move || app.draft().get()
                on:input=move |event| app.person(Person::Types(event_target_value(&event)))
                on:keydown=key
            ></textarea>
            <Show when=move || running.get()>
                <button
                    type="button"
                    class="round stop"
                    data-testid="stop"
                    aria-label=app.t(T::Stop)
                    title=app.t(T::Stop)
                    on:click=move |_| app.person(Person::Stops)
                >
                    <Icon path=STOP />
                </button>
            </Show>
            <Show when=move || !running.get() || !empty.get()>
                <button
                    class="round send"
                    data-testid="send"
                    aria-label=app.t(T::Send)
                    title=app.t(T::Send)
                    disabled=empty
                >
                    <Icon path=SEND />
                </button>
            </Show>
        </form>
    }
}
