//! A question and its answer.

use leptos::prelude::*;
use wire::FinishReason;

use super::{
    answer::Answer,
    editor::{Editor, again},
    icon::{AGAIN, COPY, EDIT, Icon},
    latency::Latency,
    versions::Versions,
};
use crate::{
    core::{Person, connection::Link, state::told, turn::TurnPhase},
    i18n::T,
    io::{App, TurnHandle, dom},
};

#[component]
pub fn TurnView(turn: TurnHandle, grown: Callback<()>) -> impl IntoView {
    let app = App::here();
    let editing = RwSignal::new(None::<String>);
    let question = move || turn.read(|turn| turn.question.clone());
    let waiting = move || match turn.phase(TurnPhase::clone) {
        TurnPhase::Unsent if app.link().get() == Link::Online => {
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
        <article class="turn" data-testid="turn" data-turn=turn.id() data-phase=move || turn.phase(TurnPhase::name)>
            {move || match editing.get() {
                None => view! {
                    <div class="question">
                        <p dir="auto" data-testid="question-text">{question()}</p>
                        <button
                            class="tool"
                            data-testid="edit"
                            aria-label=app.t(T::Edit)
                            title=app.t(T::Edit)
                            on:click=move |_| editing.set(Some(question()))
                        >
                            <Icon path=EDIT />
                        </button>
                    </div>
                }
                .into_any(),
                Some(text) => {
                    let done = move || {
                        editing.set(None);
                        focus_edit(turn);
                    };
                    view! { <Editor turn text done /> }.into_any()
                }
            }}
            <Answer turn grown />
            {move || waiting().map(|text| view! {
                <p class="waiting" data-testid="waiting"><span class="pulse" aria-hidden="true"></span>{text}</p>
            })}
            <Ending turn />
            <footer>
                <Latency turn />
                <Versions turn />
                <Show when=move || turn.phase(|p| matches!(p, TurnPhase::Done(_)))>
                    <span class="tools">
                        <button
                            class="tool"
                            data-testid="copy"
                            aria-label=app.t(T::Copy)
                            title=app.t(T::Copy)
                            on:click=move |_| app.copy(turn.read(|turn| turn.answer.clone()))
                        >
                            <Icon path=COPY />
                        </button>
                        <button
                            class="tool"
                            data-testid="regenerate"
                            aria-label=app.t(T::Again)
                            title=app.t(T::Again)
                            on:click=move |event| again(app, turn, None, event.time_stamp())
                        >
                            <Icon path=AGAIN />
                        </button>
                    </span>
                </Show>
            </footer>
        </article>
    }
}

/// The editor is closed: the cursor goes back to what opened it.
fn focus_edit(turn: TurnHandle) {
    request_animation_frame(move || {
        dom::focus(&format!("[data-turn='{}'] [data-testid=edit]", turn.id()));
    });
}

/// How it ended, where that needs a word, and the way on.
#[component]
fn Ending(turn: TurnHandle) -> impl IntoView {
    let app = App::here();
    move || match turn.phase(TurnPhase::clone) {
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
                        app.person(Person::Asks {
                            text: app.text(T::ContinueText).to_owned(),
                            when: event.time_stamp(),
                        });
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
                    {told(&failure, app.lang().get())}
                    {failure.retry_after_ms.map(|ms| {
                        let seconds = format!("{:.0}", (ms / 1000.0).ceil());
                        format!(" {}", app.filled(T::RetryIn, &[&seconds]))
                    })}
                </p>
                <button
                    class="quiet"
                    data-testid="try-again"
                    on:click=move |event| again(app, turn, None, event.time_stamp())
                >
                    {app.t(T::TryAgain)}
                </button>
            </div>
        }
        .into_any(),
        _ => ().into_any(),
    }
}
