//! Questions and answers.

use leptos::{html::Div, prelude::*};
use wire::FinishReason;

use super::{
    answer::Answer,
    icon::{AGAIN, COPY, EDIT, Icon},
};
use crate::{
    actions,
    i18n::T,
    latency::Latency,
    state::{App, Link, Picture, PicturePhase, Turn, TurnPhase},
};

/// Nearer to the end than this, the view follows it.
const AT_END: i32 = 48;

#[component]
pub fn Conversation(app: App) -> impl IntoView {
    let scroller = NodeRef::<Div>::new();
    let at_end = StoredValue::new(true);
    let follow = Callback::new(move |()| {
        if let Some(element) = scroller.get_untracked().filter(|_| at_end.get_value()) {
            element.set_scroll_top(element.scroll_height());
        }
    });
    // A new question is always brought into view.
    Effect::new(move |_| {
        app.turns.with(Vec::len);
        at_end.set_value(true);
        request_animation_frame(move || follow.run(()));
    });
    let scrolled = move |_| {
        if let Some(e) = scroller.get_untracked() {
            at_end.set_value(e.scroll_height() - e.scroll_top() - e.client_height() < AT_END);
        }
    };
    view! {
        <div class="turns" tabindex="0" role="region" aria-label=app.t(T::Conversation) node_ref=scroller on:scroll=scrolled>
            <For each=move || app.turns.get() key=|turn| turn.id let(turn)>
                <TurnView app turn grown=follow />
            </For>
            <Suggestions app />
        </div>
    }
}

/// What might be asked first.
#[component]
fn Suggestions(app: App) -> impl IntoView {
    let suggestions = move || {
        let own = app.suggestions.get();
        if !own.is_empty() {
            return own;
        }
        [T::SuggestWhat, T::SuggestWhere, T::SuggestRead]
            .map(|t| app.filled(t, &[]))
            .to_vec()
    };
    let usable = |picture: &Picture| !matches!(picture.phase, PicturePhase::Failed(_));
    let shown = Memo::new(move |_| {
        app.turns.with(Vec::is_empty) && app.picture.with(|p| p.as_ref().is_some_and(usable))
    });
    view! {
        <Show when=move || shown.get()>
            <ul class="suggestions">
                <For each=suggestions key=Clone::clone let(text)>
                    {
                        let asked = text.clone();
                        view! {
                            <li>
                                <button
                                    data-testid="suggestion"
                                    on:click=move |event| {
                                        actions::ask(app, &asked, event.time_stamp());
                                    }
                                >
                                    {text}
                                </button>
                            </li>
                        }
                    }
                </For>
            </ul>
        </Show>
    }
}

#[component]
fn TurnView(app: App, turn: Turn, grown: Callback<()>) -> impl IntoView {
    let editing = RwSignal::new(None::<String>);
    let phase = turn.phase;
    let waiting = move || match phase.get() {
        TurnPhase::Unsent if app.link.get() == Link::Online => {
            Some(app.filled(T::WaitingModel, &[]))
        }
        TurnPhase::Unsent => Some(app.filled(T::Unsent, &[])),
        TurnPhase::Sent => Some(app.filled(T::Sent, &[])),
        TurnPhase::Queued(None) => Some(app.filled(T::WaitingPicture, &[])),
        TurnPhase::Queued(Some(0)) => Some(app.filled(T::QueuedNext, &[])),
        TurnPhase::Queued(Some(n)) => Some(app.filled(T::QueuedAt, &[&n.to_string()])),
        TurnPhase::Thinking => Some(app.filled(T::Thinking, &[])),
        _ => None,
    };
    view! {
        <article class="turn" data-testid="turn" data-phase=move || phase.with(TurnPhase::name)>
            {move || match editing.get() {
                None => view! {
                    <div class="question">
                        <p data-testid="question-text">{turn.question}</p>
                        <button
                            class="tool"
                            data-testid="edit"
                            aria-label=app.t(T::Edit)
                            title=app.t(T::Edit)
                            on:click=move |_| editing.set(Some(turn.question.get_untracked()))
                        >
                            <Icon path=EDIT />
                        </button>
                    </div>
                }
                .into_any(),
                Some(text) => view! { <Editor app turn text done=move || editing.set(None) /> }.into_any(),
            }}
            <Answer app turn grown />
            {move || waiting().map(|text| view! {
                <p class="waiting" data-testid="waiting"><span class="pulse" aria-hidden="true"></span>{text}</p>
            })}
            <Ending app turn />
            <footer>
                <Latency app turn />
                <Show when=move || phase.with(|p| matches!(p, TurnPhase::Done(_)))>
                    <span class="tools">
                        <button
                            class="tool"
                            data-testid="copy"
                            aria-label=app.t(T::Copy)
                            title=app.t(T::Copy)
                            on:click=move |_| app.copy(turn.answer.get_untracked())
                        >
                            <Icon path=COPY />
                        </button>
                        <button
                            class="tool"
                            data-testid="regenerate"
                            aria-label=app.t(T::Again)
                            title=app.t(T::Again)
                            on:click=move |event| actions::ask_again(app, turn, None, event.time_stamp())
                        >
                            <Icon path=AGAIN />
                        </button>
                    </span>
                </Show>
            </footer>
        </article>
    }
}

/// How it ended, where that needs a word, and the way on.
#[component]
fn Ending(app: App, turn: Turn) -> impl IntoView {
    move || match turn.phase.get() {
        TurnPhase::Done(FinishReason::Cancelled) => {
            view! { <p class="ending" data-testid="ending">{app.t(T::Stopped)}</p> }.into_any()
        }
        TurnPhase::Done(FinishReason::Timeout) => {
            view! { <p class="ending" data-testid="ending">{app.t(T::TimedOut)}</p> }.into_any()
        }
        TurnPhase::Done(FinishReason::Length) => view! {
            <p class="ending" data-testid="ending">
                {app.t(T::Length)} " "
                <button
                    class="quiet"
                    data-testid="continue"
                    on:click=move |event| {
                        actions::ask(app, app.text(T::ContinueText), event.time_stamp());
                    }
                >
                    {app.t(T::Continue)}
                </button>
            </p>
        }
        .into_any(),
        TurnPhase::Failed(failure) => view! {
            <div class="failure" role="alert" data-testid="failure" data-code=failure.code.as_str()>
                <p>
                    {failure.message}
                    {failure.retry_after_ms.map(|ms| {
                        let seconds = format!("{:.0}", (ms / 1000.0).ceil());
                        format!(" {}", app.filled(T::RetryIn, &[&seconds]))
                    })}
                </p>
                <button
                    class="quiet"
                    data-testid="try-again"
                    on:click=move |event| actions::ask_again(app, turn, None, event.time_stamp())
                >
                    {app.t(T::TryAgain)}
                </button>
            </div>
        }
        .into_any(),
        _ => ().into_any(),
    }
}

/// A question being edited, to be asked again.
#[component]
fn Editor(app: App, turn: Turn, text: String, done: impl Fn() + Copy + 'static) -> impl IntoView {
    let draft = RwSignal::new(text);
    let field = NodeRef::<leptos::html::Input>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            let _ = field.focus();
        }
    });
    view! {
        <form
            class="editor"
            on:submit=move |event| {
                event.prevent_default();
                let text = draft.get_untracked();
                if !wire::is_blank(&text) {
                    done();
                    actions::ask_again(app, turn, Some(text.trim().to_owned()), event.time_stamp());
                }
            }
            on:keydown=move |event| {
                if event.key() == "Escape" {
                    done();
                }
            }
        >
            <input
                data-testid="edit-text"
                aria-label=app.t(T::Question)
                node_ref=field
                prop:value=draft
                on:input=move |event| draft.set(event_target_value(&event))
            />
            <button type="button" class="quiet" on:click=move |_| done()>{app.t(T::Cancel)}</button>
            <button class="primary" data-testid="edit-send">{app.t(T::Send)}</button>
        </form>
    }
}
