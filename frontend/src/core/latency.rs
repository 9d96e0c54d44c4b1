//! Where the time went: for each answer a small waterfall, from the user's own click.

use super::{
    picture::PictureTimes,
    state::State,
    turn::{AnswerTimes, Turn},
};
use crate::i18n::{Lang, T};

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

/// Where most of the time to an answer's first word went, as a sentence names it, and how long that took.
pub fn most_of_it(spans: &[Span]) -> Option<(T, f64)> {
    let causes = [
        (T::CauseNetwork, [T::SpanSend, T::SpanReturn]),
        (T::CausePicture, [T::SpanPicture, T::SpanPicture]),
        (T::CauseQueue, [T::SpanQueue, T::SpanQueue]),
        (T::CauseModel, [T::SpanPrefill, T::SpanFirst]),
    ];
    let took = causes.map(|(cause, labels)| {
        let within = spans.iter().filter(|s| labels.contains(&s.label));
        (cause, within.map(|s| s.end - s.begin).sum::<f64>())
    });
    let most = took.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    most.filter(|(_, ms)| *ms > 0.0)
}

/// The value below which `share` of the values lie (nearest rank).
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// All of it about an answer, for whoever wants to work with the figures.
pub fn json(state: &State, turn: &Turn) -> String {
    let times = &*turn.times;
    let spans = |spans: Vec<Span>| -> serde_json::Value {
        spans
            .iter()
            .map(|s| {
                serde_json::json!({
                    "span": s.label.in_language(Lang::En),
                    "begin_ms": s.begin, "end_ms": s.end,
                    "measured_by": if s.server { "server" } else { "page" },
                })
            })
            .collect()
    };
    let first_words = &state.first_words;
    let value = serde_json::json!({
        "question": turn.question,
        "first_word_ms": times.drawn.map(|d| d - times.clicked),
        "clock_uncertainty_ms": times.clock.map(|c| c.uncertainty),
        "picture": times.picture.as_ref().map(|p| spans(picture(p))),
        "answer": spans(answer(times)),
        "server_timings": times.timings,
        "usage": times.usage,
        "session": {
            "answers": first_words.len(),
            "first_word_median_ms": percentile(first_words, 0.5),
            "first_word_p95_ms": percentile(first_words, 0.95),
        },
        "model": *state.model,
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
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
    fn one_cause_took_most_of_the_time_to_the_first_word() {
        // 95 of 108 ms are the server's own: 60 of prefill, and 15 to the word.
        let spans = answer(&times(1100.0));
        assert_eq!(most_of_it(&spans), Some((T::CauseModel, 75.0)));
        let mut slow = times(1500.0);
        slow.drawn = Some(1508.0);
        assert_eq!(
            most_of_it(&answer(&slow)).map(|m| m.0),
            Some(T::CauseNetwork)
        );
        assert_eq!(most_of_it(&[]), None);
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
