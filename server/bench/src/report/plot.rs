//! Plots, as SVG inside of the page: their colours and letters are its style sheet's.

use std::fmt::Write;

use super::markdown::number;
use super::stats::Summary;

/// What a plot is drawn for: each has all of it without scrolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A screen or paper: names stand to the left.
    Broad,
    /// A phone: names stand above.
    Slim,
}

impl Width {
    fn whole(self) -> f64 {
        self.either(860.0, 358.0)
    }

    fn left(self) -> f64 {
        self.either(190.0, 10.0)
    }

    fn right(self) -> f64 {
        self.either(24.0, 14.0)
    }

    /// What a row needs for its name above it.
    fn head(self) -> f64 {
        self.either(0.0, 18.0)
    }

    fn either<T>(self, broad: T, slim: T) -> T {
        match self {
            Width::Broad => broad,
            Width::Slim => slim,
        }
    }
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn svg(width: Width, height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {} {height:.0}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
        width.whole(),
        escape(title)
    )
}

/// Round numbers from 0 to a little over `most`, some `about` of them.
fn ticks(most: f64, about: f64) -> Vec<f64> {
    let rough = (most / about).max(1e-9);
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let count = (most / step).ceil() as usize;
    (0..=count.max(1)).map(|n| n as f64 * step).collect()
}

fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let _ = write!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>",
        escape(content)
    );
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), class: &str) {
    let _ = write!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// A scale along the bottom, in `unit`, and its grid. Returns where a value lies, and the scale's end.
fn scale(
    out: &mut String,
    width: Width,
    most: f64,
    bottom: f64,
    unit: &str,
) -> (impl Fn(f64) -> f64 + use<>, f64) {
    let ticks = ticks(most, width.either(5.0, 3.0));
    let full = ticks.last().copied().unwrap_or(1.0);
    let (left, across) = (width.left(), width.whole() - width.left() - width.right());
    let place = move |value: f64| left + value / full * across;
    for tick in &ticks {
        line(out, (place(*tick), 8.0), (place(*tick), bottom), "grid");
        let label = format!("{}", (tick * 1e6).round() / 1e6);
        if width == Width::Slim && *tick == full {
            let label = format!("{label} {unit}");
            text(out, width.whole(), bottom + 18.0, "name", &label);
        } else {
            text(out, place(*tick), bottom + 18.0, "tick", &label);
        }
    }
    if width == Width::Broad {
        text(out, left - 12.0, bottom + 18.0, "name", unit);
    }
    (place, full)
}

/// A row's name: to the left of its middle, or above its top.
fn name(out: &mut String, width: Width, top: f64, middle: f64, content: &str) {
    match width {
        Width::Broad => text(out, width.left() - 12.0, middle + 4.0, "name", content),
        Width::Slim => text(out, width.left(), top - 4.0, "above", content),
    }
}

/// One row for each name: every value a dot, a line through the median, a lighter one at the 95th percentile. What lies
/// far beyond the others is told in words at the end of its row, so that it does not press all else to the left.
pub fn strips(width: Width, title: &str, rows: &[(&str, &[f64])]) -> String {
    const ROW: f64 = 34.0;
    let row = ROW + width.head();
    let bottom = 12.0 + row * rows.len() as f64;
    let mut out = String::new();
    let most = rows
        .iter()
        .filter_map(|(_, values)| Summary::of(values))
        .map(|s| s.max.min(s.p95 * 1.5))
        .fold(0.0, f64::max);
    let (place, full) = scale(&mut out, width, most, bottom, "ms");
    for (index, (title, values)) in rows.iter().enumerate() {
        let top = 12.0 + row * index as f64 + width.head();
        let middle = top + ROW / 2.0;
        let series = usize::from(index > 0) + 1;
        name(&mut out, width, top, middle, title);
        // Thousands of dots would only make the file large.
        let stride = values.len().div_ceil(400).max(1);
        let shown = values.iter().step_by(stride).enumerate();
        for (n, value) in shown.filter(|(_, value)| **value <= full) {
            // Spread by the golden ratio, so that neighbours do not hide each other.
            let spread = (n as f64 * 0.618_034).fract() - 0.5;
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" class=\"dot s{series}\"/>",
                place(*value),
                middle + spread * (ROW - 14.0)
            );
        }
        let Some(s) = Summary::of(values) else {
            continue;
        };
        for (value, class) in [(s.median, "median"), (s.p95, "p95")] {
            let (x, half) = (place(value), ROW / 2.0 - 5.0);
            line(&mut out, (x, middle - half), (x, middle + half), class);
        }
        let beyond = values.iter().filter(|value| **value > full).count();
        if beyond > 0 {
            let words = format!("{beyond} beyond, up to {} ▸", number(s.max));
            let y = width.either(middle + 4.0, top - 4.0);
            text(&mut out, width.whole(), y, "beyond", &words);
        }
    }
    svg(width, bottom + 28.0, title, &out)
}

/// A part of a waterfall's row.
pub struct Part {
    pub name: &'static str,
    pub ms: f64,
    /// The number of the part's colour.
    pub series: usize,
}

/// A row of a waterfall: what followed what, and when the question was asked.
pub struct Fall {
    pub name: String,
    pub parts: Vec<Part>,
    pub asked_ms: f64,
}

/// What follows what, one row for each server.
pub fn waterfall(width: Width, title: &str, falls: &[Fall]) -> String {
    let row = 46.0 + width.head();
    let bottom = 22.0 + row * falls.len() as f64;
    let mut out = String::new();
    let total = |fall: &Fall| fall.parts.iter().map(|part| part.ms).sum::<f64>();
    let most = falls.iter().map(total).fold(0.0, f64::max);
    let (place, _) = scale(&mut out, width, most, bottom, "ms");
    for (index, fall) in falls.iter().enumerate() {
        let top = 26.0 + row * index as f64 + width.head();
        // Above it there is the word of the question too.
        name(&mut out, width, top - width.head(), top + 12.0, &fall.name);
        let mut from = 0.0;
        for part in &fall.parts {
            let (x, end) = (place(from), place(from + part.ms));
            let _ = write!(
                out,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"24\" class=\"bar s{}\"><title>{}: {} ms</title></rect>",
                (end - x).max(0.5),
                part.series,
                escape(part.name),
                number(part.ms)
            );
            from += part.ms;
        }
        let asked = place(fall.asked_ms);
        line(&mut out, (asked, top - 5.0), (asked, top + 29.0), "asked");
        text(&mut out, asked, top - 8.0, "mark", "asked");
    }
    svg(width, bottom + 28.0, title, &out)
}

/// A line of a chart.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub series: usize,
}

/// Lines over a common axis. `logarithmic`: doubling takes the same way everywhere along it.
pub fn lines(
    width: Width,
    title: &str,
    (x_unit, y_unit): (&str, &str),
    lines: &[Line],
    logarithmic: bool,
) -> String {
    const TOP: f64 = 16.0;
    const BOTTOM: f64 = 276.0;
    let start = width.either(76.0, 62.0);
    let end = width.whole() - width.either(150.0, 14.0);
    let mut out = String::new();
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let measure = |x: f64| if logarithmic { x.max(1e-9).log2() } else { x };
    let (low, high) = all().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| {
        (low.min(measure(x)), high.max(measure(x)))
    });
    let across = move |x: f64| start + (measure(x) - low) / (high - low).max(1e-9) * (end - start);
    let ticks = ticks(all().map(|(_, y)| y).fold(0.0, f64::max), 5.0);
    let full = ticks.last().copied().unwrap_or(1.0);
    let up = move |y: f64| BOTTOM - y / full * (BOTTOM - TOP);
    for tick in &ticks {
        line(&mut out, (start, up(*tick)), (end, up(*tick)), "grid");
        let unit = if *tick == full { y_unit } else { "" };
        let label = format!("{} {unit}", (tick * 1e6).round() / 1e6);
        text(
            &mut out,
            start - 10.0,
            up(*tick) + 4.0,
            "name",
            label.trim(),
        );
    }
    let mut marks: Vec<f64> = if logarithmic {
        all().map(|(x, _)| x).collect()
    } else {
        self::ticks(high, width.either(5.0, 3.0))
            .into_iter()
            .filter(|x| (low..=high).contains(x))
            .collect()
    };
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for mark in marks {
        let label = format!("{}", (mark * 1e6).round() / 1e6);
        text(&mut out, across(mark), BOTTOM + 20.0, "tick", &label);
    }
    text(&mut out, (start + end) / 2.0, BOTTOM + 40.0, "tick", x_unit);
    let mut labels: Vec<(f64, &Line)> = Vec::new();
    for one in lines {
        let points: Vec<String> = one
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y)))
            .collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" class=\"line s{}\"/>",
            points.join(" "),
            one.series
        );
        if one.points.len() <= 12 {
            for (x, y) in &one.points {
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" class=\"s{}\"/>",
                    across(*x),
                    up(*y),
                    one.series
                );
            }
        }
        if let Some((_, y)) = one.points.last() {
            labels.push((up(*y), one));
        }
    }
    let mut height = BOTTOM + 50.0;
    if width == Width::Slim {
        for one in lines {
            let class = format!("start s{}", one.series);
            text(&mut out, start, height + 10.0, &class, &one.name);
            height += 20.0;
        }
        return svg(width, height, title, &out);
    }
    // Names at the lines' ends, moved apart where they would lie on each other.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = f64::MIN;
    for (y, one) in labels {
        let y = y.max(last + 16.0);
        let class = format!("end s{}", one.series);
        text(&mut out, end + 10.0, y + 4.0, &class, &one.name);
        last = y;
    }
    svg(width, height, title, &out)
}

/// Lines as a file of its own, which brings its colours and letters.
pub fn drawing(title: &str, units: (&str, &str), of: &[Line]) -> String {
    const STYLE: &str = "<style>text{font:13px sans-serif;fill:#444}.tick{text-anchor:middle}.name{text-anchor:end}\
        .grid{stroke:#ddd}.s1{--c:#2a6fb0}.s2{--c:#c4622d}.s3{--c:#3d8f5f}.line{fill:none;stroke:var(--c);stroke-width:2.5}\
        circle{fill:var(--c)}text.end{fill:var(--c)}</style><rect width=\"100%\" height=\"100%\" fill=\"white\"/>";
    let plot = lines(Width::Broad, title, units, of, false);
    plot.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
        .replacen('>', &format!(">{STYLE}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        assert_eq!(ticks(97.0, 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(3.2, 5.0).last(), Some(&4.0));
        assert_eq!(ticks(0.0, 5.0).len(), 2);
    }

    #[test]
    fn names_from_outside_stay_text() {
        let plot = strips(Width::Slim, "<b>", &[("a & <script>", &[1.0, 2.0])]);
        assert!(plot.contains("a &amp; &lt;script&gt;") && !plot.contains("<script>"));
    }
}
