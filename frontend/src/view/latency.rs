//! One line under an answer that says how long it took, opened to a waterfall.

use leptos::{html::Div, prelude::*};
use web_sys::ScrollIntoViewOptions;

use crate::{
    core::{
        figures::duration,
        latency::{self, Span, most_of_it, percentile},
        turn::AnswerTimes,
    },
    i18n::T,
    io::{App, TurnHandle},
};

#[component]
fn Waterfall(title: T, spans: Vec<Span>) -> impl IntoView {
    let app = App::here();
    let whole = spans.iter().map(|s| s.end).fold(1.0, f64::max);
    let percent = move |ms: f64| format!("{:.2}%", 100.0 * ms / whole);
    view! {
        <p class="panel-title">{app.t(title)}</p>
        <dl class="waterfall">
            {spans
                .into_iter()
                .map(|s| {
                    let width = percent((s.end - s.begin).max(whole / 200.0));
                    view! {
                        <div class:server=s.server>
                            <dt>{app.t(s.label)}</dt>
                            <dd>
                                <svg aria-hidden="true" height="8" width="100%">
                                    <rect class="track" width="100%" height="8" rx="4" />
                                    <rect class="bar" x=percent(s.begin.min(whole * 0.995)) width=width height="8" rx="3" />
                                </svg>
                                <span>{duration(s.end - s.begin)}</span>
                            </dd>
                        </div>
                    }
                })
                .collect_view()}
        </dl>
    }
}

/// Fewer tokens than these tell nothing of how many come in a second.
const TELLING: u64 = 20;

/// Which bars are whose.
#[component]
fn Legend() -> impl IntoView {
    let app = App::here();
    let entry = move |server: bool, text: T| {
        view! { <span class="entry" class:server=server><i aria-hidden="true"></i>{app.t(text)}</span> }
    };
    view! { <p class="legend">{entry(false, T::LegendPage)}{entry(true, T::LegendServer)}</p> }
}

/// One number under an answer, opened to where it comes from.
#[component]
pub fn Latency(turn: TurnHandle) -> impl IntoView {
    let app = App::here();
    let opened = RwSignal::new(false);
    let place = NodeRef::<Div>::new();
    // All of it is to be seen, once it is asked for; where there is no room for that, how it begins.
    Effect::new(move |_| {
        if let Some(panel) = place.get() {
            let options = ScrollIntoViewOptions::new();
            let _ = js_sys::Reflect::set(&options, &"block".into(), &"nearest".into());
            panel.scroll_into_view_with_scroll_into_view_options(&options);
        }
    });
    let line = move || {
        turn.times(|times| {
            let drawn = times.drawn.or(times.first)?;
            Some(duration(drawn - times.clicked))
        })
    };
    let panel = move || {
        let times = turn.times(AnswerTimes::clone);
        let first_words = app.first_words().get();
        let value = |share| {
            percentile(&first_words, share)
                .map(duration)
                .unwrap_or_default()
        };
        let session = app.filled(
            T::Session,
            &[&value(0.5), &value(0.95), &first_words.len().to_string()],
        );
        let clock = match times.clock {
            Some(clock) => app.filled(T::ClockNote, &[&duration(clock.uncertainty)]),
            None => app.filled(T::ClockUnknown, &[]),
        };
        let usage = times.usage.map(|u| {
            let [asked, cached, said] =
                [u.prompt_tokens, u.cached_tokens, u.completion_tokens].map(|n| n.to_string());
            let tokens = app.filled(T::Tokens, &[&asked, &cached, &said]);
            let speed = times.timings.map_or(0.0, |t| t.tokens_per_second);
            let told = u.completion_tokens >= TELLING && speed > 0.0;
            let rate = told.then(|| app.filled(T::Rate, &[&format!("{speed:.0}")]));
            [Some(tokens), rate]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        });
        let spans = latency::answer(&times);
        let drawn = times.drawn.or(times.first).unwrap_or(times.clicked);
        let first = duration(drawn - times.clicked);
        let sentence = match most_of_it(&spans) {
            Some((cause, ms)) => app.filled(
                T::MostOfIt,
                &[&first, &app.filled(cause, &[]), &duration(ms)],
            ),
            None => app.filled(T::FirstWord, &[&first]),
        };
        let total = times.done.map(|done| {
            let whole = duration(done.max(drawn) - times.clicked);
            app.filled(T::Total, &[&whole])
        });
        view! {
            <div class="latency-panel" data-testid="latency-panel" node_ref=place>
                <p class="panel-title" data-testid="most-of-it">{sentence} " " {total}</p>
                <Legend />
                {times.picture.map(|p| view! { <Waterfall title=T::PicturePart spans=latency::picture(&p) /> })}
                <Waterfall title=T::AnswerPart spans />
                <p>{clock}</p>
                <p>{usage}</p>
                <p>{session}</p>
                <button
                    class="quiet"
                    data-testid="copy-json"
                    on:click=move |_| {
                        let json = app.read(|state| turn.read(|turn| latency::json(state, turn)));
                        app.copy(json);
                    }
                >
                    {app.t(T::CopyJson)}
                </button>
            </div>
        }
    };
    view! {
        <Show when=move || line().is_some()>
            <div class="latency">
                <button
                    class="latency-line"
                    data-testid="latency"
                    title=app.t(T::Latency)
                    aria-label=move || app.filled(T::FirstWord, &[&line().unwrap_or_default()])
                    aria-expanded=move || opened.get().to_string()
                    on:click=move |_| opened.update(|o| *o = !*o)
                >
                    {line}
                </button>
                {move || opened.get().then(panel)}
            </div>
        </Show>
    }
}
