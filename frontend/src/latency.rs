//! Where the time went: for each answer a small waterfall, from the user's own click.

use leptos::{html::Div, prelude::*};

use crate::{
    dom,
    i18n::T,
    state::{AnswerTimes, App, PictureTimes, Turn},
};

/// A stretch of time, in milliseconds from its group's beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub label: T,
    pub begin: f64,
    pub end: f64,
    /// Measured by the server, placed by the joined clocks.
    pub server: bool,
}

fn span(spans: &mut Vec<Span>, label: T, begin: f64, length: f64, server: bool) -> f64 {
    let begin = begin.max(0.0);
    let end = begin + length.max(0.0);
    spans.push(Span {
        label,
        begin,
        end,
        server,
    });
    end
}

/// From the drop to the moment the model has looked.
pub fn picture(times: &PictureTimes) -> Vec<Span> {
    let mut spans = Vec::new();
    let zero = times.dropped;
    if let Some(shown) = times.shown {
        span(&mut spans, T::SpanShown, 0.0, shown - zero, false);
    }
    if let Some(read) = times.read {
        span(&mut spans, T::SpanRead, 0.0, read - zero, false);
    }
    if let Some((begin, end)) = times.scaled {
        span(&mut spans, T::SpanScale, begin - zero, end - begin, false);
    }
    if let (Some(sent), Some(received)) = (times.sent, times.received) {
        span(
            &mut spans,
            T::SpanUpload,
            sent - zero,
            received - sent,
            false,
        );
    }
    if let (Some(ready), Some(t)) = (times.ready, times.image) {
        let begin = ready - zero - t.preprocess_ms - t.decode_ms;
        let decoded = span(&mut spans, T::SpanDecode, begin, t.decode_ms, true);
        span(
            &mut spans,
            T::SpanPreprocess,
            decoded,
            t.preprocess_ms,
            true,
        );
    }
    if let (Some(encoded), Some(t)) = (times.encoded, times.encode) {
        let begin = encoded - zero - t.prefill_ms - t.vision_ms - t.queue_ms;
        let waited = span(&mut spans, T::SpanWait, begin, t.queue_ms, true);
        let looked = span(&mut spans, T::SpanLook, waited, t.vision_ms, true);
        span(&mut spans, T::SpanPrefill, looked, t.prefill_ms, true);
    }
    spans
}

/// From Send to the last word.
pub fn answer(times: &AnswerTimes) -> Vec<Span> {
    let mut spans = Vec::new();
    let (Some(t), Some(first)) = (times.timings, times.first_left) else {
        return spans;
    };
    let zero = times.clicked;
    // The clocks are joined to within the way there and back. Within that it is certain that the first word left no
    // earlier than the click and the server's own time for it, and no later than it was drawn.
    let first = first.max(zero + t.first_token_ms);
    let first = times.drawn.map_or(first, |drawn| first.min(drawn));
    let asked = span(
        &mut spans,
        T::SpanSend,
        0.0,
        first - t.first_token_ms - zero,
        false,
    );
    let seen = span(&mut spans, T::SpanPicture, asked, t.image_wait_ms, true);
    let queued = span(&mut spans, T::SpanQueue, seen, t.queue_ms, true);
    let filled = span(&mut spans, T::SpanPrefill, queued, t.prefill_ms, true);
    span(
        &mut spans,
        T::SpanFirst,
        filled,
        first - zero - filled,
        true,
    );
    if let Some(drawn) = times.drawn {
        span(
            &mut spans,
            T::SpanReturn,
            first - zero,
            drawn - first,
            false,
        );
    }
    if let Some(done) = times.done {
        span(&mut spans, T::SpanWrite, first - zero, done - first, true);
    }
    // What took no time would only be in the way.
    spans.retain(|s| s.end - s.begin >= 0.05 || s.label == T::SpanFirst);
    spans
}

/// The value below which `share` of the values lie (nearest rank).
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn json(app: App, turn: Turn, times: &AnswerTimes) -> String {
    let spans = |spans: Vec<Span>| -> serde_json::Value {
        spans
            .iter()
            .map(|s| {
                serde_json::json!({
                    "span": s.label.in_language(crate::i18n::Lang::En),
                    "begin_ms": s.begin, "end_ms": s.end,
                    "measured_by": if s.server { "server" } else { "page" },
                })
            })
            .collect()
    };
    let first_words = app.first_words.get_untracked();
    let value = serde_json::json!({
        "question": turn.question.get_untracked(),
        "first_word_ms": times.drawn.map(|d| d - times.clicked),
        "clock_uncertainty_ms": times.clock.map(|c| c.uncertainty),
        "picture": times.picture.as_ref().map(|p| spans(picture(p))),
        "answer": spans(answer(times)),
        "server_timings": times.timings,
        "usage": times.usage,
        "session": {
            "answers": first_words.len(),
            "first_word_median_ms": percentile(&first_words, 0.5),
            "first_word_p95_ms": percentile(&first_words, 0.95),
        },
        "model": app.model.get_untracked(),
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

#[component]
fn Waterfall(app: App, title: T, spans: Vec<Span>) -> impl IntoView {
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
                                <span>{dom::duration(s.end - s.begin)}</span>
                            </dd>
                        </div>
                    }
                })
                .collect_view()}
        </dl>
    }
}

/// One line under an answer, opened to its waterfall.
#[component]
pub fn Latency(app: App, turn: Turn) -> impl IntoView {
    let opened = RwSignal::new(false);
    let place = NodeRef::<Div>::new();
    // All of it is to be seen, once it is asked for.
    Effect::new(move |_| {
        if let Some(panel) = place.get() {
            panel.scroll_into_view_with_bool(false);
        }
    });
    let line = move || {
        turn.times.with(|times| {
            let drawn = times.drawn.or(times.first)?;
            let mut parts =
                vec![app.filled(T::FirstWord, &[&dom::duration(drawn - times.clicked)])];
            if let Some(t) = times.timings {
                if t.tokens_per_second > 0.0 {
                    parts.push(
                        app.filled(T::WordsPerSecond, &[&format!("{:.0}", t.tokens_per_second)]),
                    );
                }
                if let Some(done) = times.done.map(|done| done.max(drawn)) {
                    parts.push(app.filled(T::Total, &[&dom::duration(done - times.clicked)]));
                }
            }
            Some(parts)
        })
    };
    let panel = move || {
        let times = turn.times.get();
        let first_words = app.first_words.get();
        let value = |share| {
            percentile(&first_words, share)
                .map(dom::duration)
                .unwrap_or_default()
        };
        let session = app.filled(
            T::Session,
            &[&value(0.5), &value(0.95), &first_words.len().to_string()],
        );
        let clock = match times.clock {
            Some(clock) => app.filled(T::ClockNote, &[&dom::duration(clock.uncertainty)]),
            None => app.filled(T::ClockUnknown, &[]),
        };
        let usage = times.usage.map(|u| {
            let numbers =
                [u.prompt_tokens, u.cached_tokens, u.completion_tokens].map(|n| n.to_string());
            let speed = times.timings.map_or(0.0, |t| t.tokens_per_second);
            app.filled(
                T::Tokens,
                &[
                    &numbers[0],
                    &numbers[1],
                    &numbers[2],
                    &format!("{speed:.0}"),
                ],
            )
        });
        let copied = times.clone();
        view! {
            <div class="latency-panel" data-testid="latency-panel" node_ref=place>
                {times.picture.map(|p| view! { <Waterfall app title=T::PicturePart spans=picture(&p) /> })}
                <Waterfall app title=T::AnswerPart spans=answer(&times) />
                <p>{clock}</p>
                <p>{usage}</p>
                <p>{session}</p>
                <button
                    class="quiet"
                    data-testid="copy-json"
                    on:click=move |_| {
                        app.copy(json(app, turn, &copied));
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
                    aria-expanded=move || opened.get().to_string()
                    on:click=move |_| opened.update(|o| *o = !*o)
                >
                    {move || line().map(|parts| {
                        let last = parts.len() - 1;
                        let part = |(i, text)| view! {
                            <span class="part">{text} {(i < last).then_some(" ·")}</span> " "
                        };
                        parts.into_iter().enumerate().map(part).collect_view()
                    })}
                </button>
                {move || opened.get().then(panel)}
            </div>
        </Show>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::AnswerTimings;

    #[test]
    fn percentiles_by_nearest_rank() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[3.0], 0.95), Some(3.0));
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(10.0));
        assert_eq!(percentile(&values, 0.95), Some(19.0));
    }

    /// An answer whose first word left, by the joined clocks, at `first_left`.
    fn times(first_left: f64) -> AnswerTimes {
        AnswerTimes {
            clicked: 1000.0,
            first_left: Some(first_left),
            drawn: Some(1108.0),
            done: Some(1400.0),
            timings: Some(AnswerTimings {
                queue_ms: 20.0,
                prefill_ms: 60.0,
                first_token_ms: 95.0,
                decode_ms: 310.0,
                ..AnswerTimings::default()
            }),
            ..AnswerTimes::default()
        }
    }

    #[test]
    fn an_answer_is_laid_out_without_gaps() {
        let spans = answer(&times(1100.0));
        let labels: Vec<_> = spans.iter().map(|s| s.label).collect();
        assert_eq!(
            labels,
            [
                T::SpanSend,
                T::SpanQueue,
                T::SpanPrefill,
                T::SpanFirst,
                T::SpanReturn,
                T::SpanWrite
            ]
        );
        assert_eq!((spans[0].begin, spans[0].end), (0.0, 5.0));
        for pair in spans[..4].windows(2) {
            assert_eq!(pair[0].end, pair[1].begin);
        }
        assert_eq!(spans[3].end, 100.0);
        assert_eq!(spans[5].end, 400.0);
    }

    #[test]
    fn a_clock_joined_badly_moves_nothing_before_its_cause() {
        let at = |first_left, label| {
            let spans = answer(&times(first_left));
            let span = spans.iter().find(|s| s.label == label).expect("drawn");
            (span.begin, span.end)
        };
        // 95 ms after the click is the earliest, when it was drawn the latest.
        for (left, first) in [(1070.0, 95.0), (1100.0, 100.0), (1130.0, 108.0)] {
            assert_eq!(at(left, T::SpanFirst).1, first);
            assert_eq!(at(left, T::SpanWrite), (first, 400.0));
        }
    }
}
