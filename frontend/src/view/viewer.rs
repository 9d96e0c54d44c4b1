//! The picture on the whole screen: closer and further away, and a box around what is to be looked at closely.

use leptos::{
    html::{Div, Img},
    prelude::*,
};
use web_sys::{KeyboardEvent, PointerEvent, WheelEvent};

use super::{
    dialogs::Opened,
    icon::{CLOSER, Icon, MINUS, PLUS},
};
use crate::{
    core::{Person, crop::Region, zoom::Zoom},
    i18n::T,
    io::{App, dom::Listener, files},
};

/// A step closer, by a key or a button.
const STEP: f64 = 1.5;
/// A step to the side, by a key, in CSS pixels.
const ASIDE: f64 = 80.0;
/// How much closer each pixel of a turned wheel brings, and each of two fingers on a touchpad.
const WHEEL: f64 = 0.0015;
const TOUCHPAD: f64 = 0.01;

/// A finger that moves no further taps, and taps twice by coming back so soon and so near.
const TAP: f64 = 10.0;
const TWICE_MS: f64 = 350.0;
const TWICE: f64 = 40.0;

type Point = (f64, f64);

/// What the fingers on the picture, or the mouse, are at.
#[derive(Clone, Default)]
struct Hold {
    /// Each by its number, where it is now.
    pointers: Vec<(i32, Point)>,
    /// Where the box begins that is being drawn.
    corner: Option<Point>,
    /// It is a finger that came down last, not a mouse.
    finger: bool,
    /// Where it came down, as long as it may be a tap.
    tap: Option<Point>,
    /// When and where the last tap was.
    tapped: Option<(f64, Point)>,
}

impl Hold {
    /// A finger goes up at this moment; where it was the second of two taps.
    fn tapped_twice(&mut self, when: f64) -> Option<Point> {
        let at = self.tap.take()?;
        let first = self.tapped.replace((when, at));
        let (before, near) = first?;
        let twice = when - before < TWICE_MS && distance(at, near) < TWICE;
        twice.then(|| self.tapped = None)?;
        Some(at)
    }
}

fn middle(a: Point, b: Point) -> Point {
    ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0)
}

fn distance(a: Point, b: Point) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1).max(1.0)
}

#[component]
pub fn Viewer() -> impl IntoView {
    let app = App::here();
    let Opened(opened) = Opened::here();
    let place = NodeRef::<Div>::new();
    let image = NodeRef::<Img>::new();
    let picture = app.picture();
    let shown = picture.with_untracked(|p| p.as_ref().map(|p| p.id));
    let zoom = RwSignal::new(None::<Zoom>);
    let boxed = RwSignal::new(None::<(Point, Point)>);
    let unseen = RwSignal::new(false);
    let hold = StoredValue::new(Hold::default());
    let url = shown.and_then(|id| app.original(id));
    let original = url.clone();
    on_cleanup(move || {
        if let Some(url) = original {
            files::revoke(url);
        }
    });
    let preview = picture.with_untracked(|p| p.as_ref()?.preview.clone());
    let name = picture.with_untracked(|p| p.as_ref().map(|p| p.name.clone()));

    let window_size = move || {
        let place = place.try_get_untracked().flatten()?;
        Some((
            f64::from(place.client_width()),
            f64::from(place.client_height()),
        ))
    };
    let measure = move || {
        // It is done in the next frame, by which this may be closed.
        let Some(window) = window_size() else { return };
        let size = picture.with_untracked(|p| p.as_ref()?.size);
        let loaded = image
            .get_untracked()
            .map(|image| (image.natural_width(), image.natural_height()));
        let of = size.or(loaded.filter(|(width, _)| *width > 0));
        let Some((width, height)) = of else { return };
        let of = (f64::from(width), f64::from(height));
        boxed.set(None);
        zoom.update(|zoom| {
            *zoom = Some(match *zoom {
                Some(zoom) if zoom.picture == of => zoom.resized(window),
                _ => Zoom::fit(of, window),
            });
        });
    };
    Effect::new(move |_| {
        if let Some(place) = place.get() {
            request_animation_frame(measure);
            let _ = place.focus();
        }
    });
    let resized = StoredValue::new_local(Listener::new(&window(), "resize", move |_| measure()));
    on_cleanup(move || resized.dispose());
    // The part that was looked for is there, or something else is on the page.
    Effect::new(move |_| {
        if picture.with(|p| p.as_ref().map(|p| p.id)) != shown {
            opened.set(None);
        }
    });

    let at = move |x: i32, y: i32| {
        let rect = place
            .get_untracked()
            .map(|place| place.get_bounding_client_rect());
        rect.map_or((0.0, 0.0), |rect| {
            (f64::from(x) - rect.left(), f64::from(y) - rect.top())
        })
    };
    let change = move |f: &dyn Fn(Zoom) -> Zoom| {
        boxed.set(None);
        zoom.update(|zoom| *zoom = zoom.map(f));
    };
    let centre =
        move || window_size().map_or((0.0, 0.0), |(width, height)| (width / 2.0, height / 2.0));
    let step = move |factor: f64| change(&|zoom| zoom.by(factor, centre()));

    let down = move |event: PointerEvent| {
        if event.button() != 0 {
            return;
        }
        if let Some(place) = place.get_untracked() {
            let _ = place.set_pointer_capture(event.pointer_id());
        }
        let point = at(event.client_x(), event.client_y());
        let fit = zoom.with_untracked(|zoom| zoom.is_some_and(|zoom| zoom.is_fit()));
        hold.update_value(|hold| {
            hold.pointers.push((event.pointer_id(), point));
            // Where the whole picture is seen there is nothing to be moved: a box is drawn.
            let draws = hold.pointers.len() == 1 && (fit || event.shift_key());
            hold.corner = draws.then_some(point);
            hold.finger = event.pointer_type() == "touch";
            hold.tap = (hold.finger && hold.pointers.len() == 1).then_some(point);
        });
        boxed.set(None);
    };
    let moved = move |event: PointerEvent| {
        let point = at(event.client_x(), event.client_y());
        let id = event.pointer_id();
        let mut held = hold.get_value();
        let Some(moved) = held.pointers.iter().position(|(of, _)| *of == id) else {
            return;
        };
        let before = std::mem::replace(&mut held.pointers[moved].1, point);
        held.tap = held.tap.filter(|tap| distance(*tap, point) < TAP);
        match (held.corner, &held.pointers[..]) {
            (Some(corner), [_]) => boxed.set(Some((corner, point))),
            (None, [_]) => change(&|zoom| zoom.moved(point.0 - before.0, point.1 - before.1)),
            (_, pointers) => {
                if let Some((_, other)) = pointers.iter().find(|(of, _)| *of != id) {
                    let factor = distance(point, *other) / distance(before, *other);
                    let (from, to) = (middle(before, *other), middle(point, *other));
                    change(&|zoom| zoom.moved(to.0 - from.0, to.1 - from.1).by(factor, to));
                }
            }
        }
        hold.set_value(held);
    };
    let up = move |event: PointerEvent| {
        hold.update_value(|hold| {
            hold.pointers.retain(|(id, _)| *id != event.pointer_id());
            hold.corner = None;
        });
        // No browser makes a double click of two taps for sure.
        if let Some(Some(point)) =
            hold.try_update_value(|hold| hold.tapped_twice(event.time_stamp()))
        {
            change(&|zoom| zoom.toggled(point));
        }
        // A click leaves no box.
        let seen = region(zoom, boxed).is_some_and(|region| region.is_seen());
        if !seen {
            boxed.set(None);
        }
    };
    let wheel = move |event: WheelEvent| {
        event.prevent_default();
        let by = if event.ctrl_key() { TOUCHPAD } else { WHEEL };
        let lines = if event.delta_mode() == 0 { 1.0 } else { 30.0 };
        let factor = (-event.delta_y() * lines * by).exp();
        let point = at(event.client_x(), event.client_y());
        change(&|zoom| zoom.by(factor, point));
    };
    let look = move |when: f64| {
        if let Some(region) = wanted(zoom, boxed) {
            app.person(Person::LooksCloser { region, when });
        }
    };
    let key = move |event: KeyboardEvent| {
        if event.ctrl_key() || event.meta_key() || event.alt_key() {
            return;
        }
        match event.key().as_str() {
            "+" | "=" => step(STEP),
            "-" => step(1.0 / STEP),
            "0" => change(&|zoom| Zoom::fit(zoom.picture, zoom.window)),
            "1" => change(&|zoom| zoom.by(1.0 / zoom.scale, centre())),
            "ArrowLeft" => change(&|zoom| zoom.moved(ASIDE, 0.0)),
            "ArrowRight" => change(&|zoom| zoom.moved(-ASIDE, 0.0)),
            "ArrowUp" => change(&|zoom| zoom.moved(0.0, ASIDE)),
            "ArrowDown" => change(&|zoom| zoom.moved(0.0, -ASIDE)),
            "Enter" => look(event.time_stamp()),
            _ => return,
        }
        event.prevent_default();
    };

    let layer = move |zoom: Zoom| {
        format!(
            "translate({:.2}px, {:.2}px) scale({:.6})",
            zoom.left, zoom.top, zoom.scale
        )
    };
    let transform = move || zoom.get().map_or_else(String::new, layer);
    let width = move || {
        zoom.get()
            .map_or_else(String::new, |zoom| format!("{}px", zoom.picture.0))
    };
    let outline = move || {
        boxed.get().map(|(a, b)| {
            let length = |a: f64, b: f64| format!("{:.1}px", (a - b).abs());
            view! {
                <div
                    class="box"
                    data-testid="box"
                    style:left=format!("{:.1}px", a.0.min(b.0))
                    style:top=format!("{:.1}px", a.1.min(b.1))
                    style:width=length(a.0, b.0)
                    style:height=length(a.1, b.1)
                ></div>
            }
        })
    };
    let percent = move || {
        zoom.get()
            .map(|zoom| format!("{:.0} %", 100.0 * zoom.scale))
    };
    let ready = Memo::new(move |_| {
        zoom.track();
        boxed.track();
        app.cropping().with(Option::is_none) && wanted(zoom, boxed).is_some()
    });
    view! {
        <div
            class="stage"
            tabindex="0"
            role="group"
            aria-label=app.t(T::LookCloserLong)
            data-testid="stage"
            node_ref=place
            on:pointerdown=down
            on:pointermove=moved
            on:pointerup=up
            on:pointercancel=up
            on:wheel=wheel
            on:dblclick=move |event| {
                if hold.with_value(|hold| hold.finger) {
                    return;
                }
                let point = at(event.client_x(), event.client_y());
                change(&|zoom| zoom.toggled(point));
            }
            on:keydown=key
        >
            {preview.map(|url| view! { <img src=url alt="" draggable="false" style:transform=transform style:width=width /> })}
            <img
                src=url
                alt=name
                draggable="false"
                node_ref=image
                style:transform=transform
                style:width=width
                on:load=move |_| measure()
                // What the browser can't draw is seen as its reduced copy.
                on:error=move |_| unseen.set(true)
                class:offscreen=unseen
            />
            {outline}
        </div>
        <p class="viewer-bar">
            <span class="zooms">
                <button class="tool" aria-label=app.t(T::ZoomOut) title=app.t(T::ZoomOut) on:click=move |_| step(1.0 / STEP)>
                    <Icon path=MINUS />
                </button>
                <span class="percent" data-testid="percent">{percent}</span>
                <button class="tool" aria-label=app.t(T::ZoomIn) title=app.t(T::ZoomIn) on:click=move |_| step(STEP)>
                    <Icon path=PLUS />
                </button>
            </span>
            <span class="hint">{app.t(T::LookCloserLong)}</span>
            <button
                class="primary"
                data-testid="look-closer"
                disabled=move || !ready.get()
                on:click=move |event| look(event.time_stamp())
            >
                <Icon path=CLOSER />
                {app.t(T::LookCloserSeen)}
            </button>
        </p>
    }
}

/// The region in the box, if one is drawn.
fn region(zoom: RwSignal<Option<Zoom>>, boxed: RwSignal<Option<(Point, Point)>>) -> Option<Region> {
    let zoom = zoom.get_untracked()?;
    let (a, b) = boxed.get_untracked()?;
    Some(zoom.between(a, b))
}

/// What is to be looked at closely: the box, or else what is seen of a picture that is not seen in whole.
fn wanted(zoom: RwSignal<Option<Zoom>>, boxed: RwSignal<Option<(Point, Point)>>) -> Option<Region> {
    let seen = || zoom.get_untracked().filter(|zoom| !zoom.is_fit());
    region(zoom, boxed)
        .or_else(|| seen().map(|zoom| zoom.seen()))
        .filter(Region::is_seen)
}
