//! Where the question is typed.

use leptos::{html::Textarea, prelude::*};
use web_sys::KeyboardEvent;

use super::icon::{Icon, SEND, STOP};
use crate::{core::Person, i18n::T, io::App};

/// Puts the cursor into the question.
pub fn focus_question() {
    use wasm_bindgen::JsCast;
    if let Some(field) = document().get_element_by_id("question")
        && let Ok(field) = field.dyn_into::<web_sys::HtmlElement>()
    {
        let _ = field.focus();
    }
}

#[component]
pub fn Composer() -> impl IntoView {
    let app = App::here();
    let field = NodeRef::<Textarea>::new();
    let send = move |when: f64| {
        app.person(Person::Sends { when });
        focus_question();
    };
    // Browsers without `field-sizing` grow the field by hand.
    Effect::new(move |_| {
        let lines = app
            .draft()
            .with(|text| text.matches('\n').count() + 1)
            .clamp(1, 8);
        if let Some(field) = field.get() {
            field.set_rows(lines as u32);
        }
    });
    let key = move |event: KeyboardEvent| {
        // Enter that ends an input method's composition belongs to it (229: as older browsers say so).
        let composing = event.is_composing() || event.key_code() == 229;
        if event.key() == "Enter" && !event.shift_key() && !composing {
            event.prevent_default();
            send(event.time_stamp());
        } else if event.key() == "Escape" && !composing {
            app.person(Person::Stops);
        }
    };
    let running = Memo::new(move |_| app.running());
    let empty = Memo::new(move |_| app.draft().with(|text| wire::is_blank(text)));
    let hint = move || {
        let text = if app.picture().with(Option::is_some) {
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
