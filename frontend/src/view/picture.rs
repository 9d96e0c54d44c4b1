//! The picture: where it is dropped, how far it is, what it looks like.

use leptos::{html::Input, prelude::*};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event, HtmlImageElement, HtmlInputElement};

use super::{
    composer::{focus_question, go_on, has_keys},
    dialogs::{Open, Opened},
    icon::{CAMERA, CLOSER, IMAGE, Icon},
};
use crate::{
    core::{
        Person,
        crop::Crop,
        figures,
        picture::{Picture, PicturePhase},
        state::told,
    },
    i18n::T,
    io::{
        App,
        samples::{self, Sample},
    },
};

/// Puts the cursor into the question, where there is a keyboard to type it with.
pub fn focus_after_picture() {
    if has_keys() {
        focus_question();
    }
}

#[component]
pub fn PicturePane() -> impl IntoView {
    let app = App::here();
    let input = NodeRef::<Input>::new();
    let changed = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        app.choose(input.files(), event.time_stamp(), focus_after_picture);
        // The same file may be chosen again.
        input.set_value("");
    };
    let has = Memo::new(move |_| app.card().with(Option::is_some));
    view! {
        <section class="picture" aria-label=app.t(T::ThePicture)>
            <input
                class="offscreen"
                type="file"
                accept="image/*,.heic,.heif,.avif"
                tabindex="-1"
                aria-label=app.t(T::Choose)
                data-testid="file-input"
                node_ref=input
                on:change=changed
            />
            {move || if has.get() {
                view! { <Viewfinder input /> }.into_any()
            } else {
                view! { <Empty input /> }.into_any()
            }}
            <p class="drop-now" aria-hidden="true">{app.t(T::DropNow)}</p>
        </section>
    }
}

fn choose(input: NodeRef<Input>, camera: bool) {
    let Some(input) = input.get_untracked() else {
        return;
    };
    if camera {
        let _ = input.set_attribute("capture", "environment");
    }
    input.click();
    let _ = input.remove_attribute("capture");
}

#[component]
fn Buttons(input: NodeRef<Input>, first: bool) -> impl IntoView {
    let app = App::here();
    let label = if first { T::Choose } else { T::Replace };
    view! {
        <button class:primary=first class:quiet=!first data-testid="choose" on:click=move |_| choose(input, false)>
            <Icon path=IMAGE />
            {app.t(label)}
        </button>
        <button
            class="quiet camera"
            data-testid="camera"
            title=app.t(T::Camera)
            aria-label=app.t(T::Camera)
            on:click=move |_| choose(input, true)
        >
            <Icon path=CAMERA />
            <span class="camera-text">{app.t(T::Camera)}</span>
        </button>
    }
}

/// No picture yet: the place to drop one, and some to try.
#[component]
fn Empty(input: NodeRef<Input>) -> impl IntoView {
    let app = App::here();
    view! {
        <div class="hero">
            <h2>{app.t(T::Tagline)}</h2>
            <p>{app.t(T::Lead)}</p>
        </div>
        <div class="viewfinder drop" data-testid="drop-zone">
            <p class="drop-here">{app.t(T::Drop)}</p>
            <p class="or">{app.t(T::OrPaste)}</p>
            <p class="buttons"><Buttons input first=true /></p>
            <Asked />
        </div>
        <Samples />
    }
}

/// So many pictures to try have room before they have come.
const EXPECTED: usize = 4;

#[component]
fn Samples() -> impl IntoView {
    let app = App::here();
    // None of them yet; or, where they could not be had, none at all.
    let samples = RwSignal::new(None::<Vec<Sample>>);
    spawn_local(async move {
        let _ = samples.try_set(Some(samples::list().await.unwrap_or_default()));
    });
    let line = move |sample: Sample| {
        let source = sample.path();
        let Sample { file, alt, .. } = sample;
        let chosen = file.clone();
        let alt = move || alt.of(app.lang().get());
        view! {
            <li data-sample=file>
                <button
                    data-testid="sample"
                    on:click=move |event| app.bring_sample(chosen.clone(), event.time_stamp(), focus_question)
                >
                    <img src=source alt=alt loading="lazy" width="160" height="120" />
                </button>
            </li>
        }
    };
    let lines = move || match samples.get() {
        Some(all) => all.into_iter().map(line).collect_view().into_any(),
        None => [(); EXPECTED]
            .map(|()| view! { <li></li> })
            .collect_view()
            .into_any(),
    };
    view! {
        <Show when=move || samples.with(|all| all.as_ref().is_none_or(|all| !all.is_empty()))>
            <div class="samples">
                <p>{app.t(T::TryOne)}</p>
                <ul>{lines}</ul>
            </div>
        </Show>
    }
}

/// What is asked of a picture that is still to come.
#[component]
fn Asked() -> impl IntoView {
    let app = App::here();
    move || {
        let coming = app.coming().get().unwrap_or_default();
        let asks = coming.asks.into_iter().map(|(text, _)| {
            view! { <p class="hint" data-testid="asked-of-it">{app.filled(T::AskedOfIt, &[&text])}</p> }
        });
        asks.collect_view()
    }
}

/// The whole picture in the corner of a part of it, with the part's place outlined; the way back to it.
#[component]
fn Inset(crop: Crop) -> impl IntoView {
    let app = App::here();
    let (width, height) = crop.of;
    let whole = move |event: web_sys::MouseEvent| {
        let when = event.time_stamp();
        app.person(Person::ShowsWhole { when });
        go_on();
    };
    let region = crop.region;
    view! {
        <button
            class="inset"
            data-testid="whole"
            aria-label=app.t(T::ShowWhole)
            title=app.t(T::ShowWhole)
            on:click=whole
        >
            <img src=crop.map alt="" draggable="false" />
            <svg viewBox=format!("0 0 {width} {height}") preserveAspectRatio="none" aria-hidden="true">
                <rect
                    x=region.x
                    y=region.y
                    width=region.width
                    height=region.height
                    vector-effect="non-scaling-stroke"
                />
            </svg>
        </button>
    }
}

/// The picture that the person looks at, in its frame.
#[component]
fn Viewfinder(input: NodeRef<Input>) -> impl IntoView {
    let app = App::here();
    let picture = app.card();
    let coming = Memo::new(move |_| app.coming().with(Option::is_some));
    // As long as nothing can be drawn of a picture that comes, the one before stands there.
    let Opened(opened) = Opened::here();
    let enlarge = move |_| opened.set(Some(Open::Viewer));
    // Width for each unit of height, as the browser has drawn it.
    let ratio = RwSignal::new(4.0 / 3.0);
    let drawn = move |event: Event| {
        let image: HtmlImageElement = event_target(&event);
        let (width, height) = (
            f64::from(image.natural_width()),
            f64::from(image.natural_height()),
        );
        if width > 0.0 && height > 0.0 {
            ratio.set(width / height);
        }
    };
    let transparent =
        Memo::new(move |_| picture.with(|p| p.as_ref().is_some_and(|p| p.transparent)));
    let note = move || transparent.get().then(|| app.filled(T::Transparent, &[]));
    // What the browser can draw, and cut.
    let seen = Memo::new(move |_| {
        let seen = |p: &Picture| !p.unseen && p.size.is_some() && p.failed().is_none();
        !coming.get() && picture.with(|p| p.as_ref().is_some_and(seen))
    });
    let crop = Memo::new(move |_| picture.with(|p| p.as_ref()?.crop.clone()));
    let before = move || {
        let before = app.picture().with(|p| p.as_ref()?.preview.clone());
        before.filter(|_| coming.get())
    };
    let field = move |f: fn(&Picture) -> Option<String>| picture.with(|p| p.as_ref().and_then(f));
    let phase = Memo::new(move |_| picture.with(|p| p.as_ref().map(|p| p.phase.clone())));
    let preview = Memo::new(move |_| field(|p| p.preview.clone()));
    let name = Memo::new(move |_| field(|p| Some(p.name.clone())).unwrap_or_default());
    let label = move || match phase.get() {
        Some(PicturePhase::Received) => app.filled(T::Received, &[]),
        Some(PicturePhase::Uploading) => {
            let (percent, speed, left) = picture.with(|p| {
                p.as_ref().map_or((0, None, 0), |p| {
                    let left = p.sending.saturating_sub(p.sent);
                    (100 * p.sent / p.sending.max(1), p.speed, left)
                })
            });
            let speed = speed.filter(|speed| *speed > 0.0).map(|speed| {
                let left = figures::remaining(left as f64 / speed);
                let left = app.filled(T::TimeLeft, &[&left]);
                format!(" · {}/s · {left}", figures::size(speed as u64))
            });
            let speed = speed.unwrap_or_default();
            format!("{} {percent} %{speed}", app.filled(T::Uploading, &[]))
        }
        Some(PicturePhase::Looking) => app.filled(T::Looking, &[]),
        Some(PicturePhase::Ready) => app.filled(T::Ready, &[]),
        Some(PicturePhase::Failed(_)) => app.filled(T::Failed, &[]),
        None => String::new(),
    };
    let facts = move || {
        picture.with(|p| {
            p.as_ref().map(|p| {
                let size = p
                    .size
                    .map(|(w, h)| app.filled(T::Pixels, &[&w.to_string(), &h.to_string()]));
                [Some(figures::size(p.bytes)), size]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" · ")
            })
        })
    };
    let sent = move || {
        picture.with(|p| {
            p.as_ref()
                .map_or(0.0, |p| p.sent as f64 / p.sending.max(1) as f64)
        })
    };
    let decline = move |_| {
        app.person(Person::Declines);
        go_on();
    };
    let failure = move || match phase.get() {
        Some(PicturePhase::Failed(failure)) => Some(told(&failure, app.lang().get())),
        _ => None,
    };
    view! {
        <figure
            class="viewfinder"
            data-testid="picture-card"
            data-phase=move || phase.get().map(|p| p.name())
            style=("--ratio", move || format!("{:.4}", ratio.get()))
        >
            <div class="frame">
                <div class="shot">
                    {move || match preview.get() {
                        Some(url) => view! {
                            <button
                                class="enlarge"
                                aria-label=move || format!("{}: {}", app.t(T::Enlarge)(), name.get())
                                title=note
                                disabled=move || !seen.get()
                                data-testid="enlarge"
                                on:click=enlarge
                            >
                                <img
                                    class:checkered=transparent
                                    src=url
                                    alt=name
                                    draggable="false"
                                    data-testid="preview"
                                    on:load=drawn
                                />
                            </button>
                        }
                        .into_any(),
                        None => match before() {
                            Some(url) => view! { <img class="before" src=url alt="" on:load=drawn /> }.into_any(),
                            None => view! { <div class="placeholder"><Icon path=IMAGE /></div> }.into_any(),
                        },
                    }}
                    <span class="scan" aria-hidden="true"></span>
                    {move || crop.get().map(|crop| view! { <Inset crop=*crop /> })}
                </div>
            </div>
            <figcaption>
                <p class="phase" role="status" data-testid="picture-phase">{label}</p>
                {move || (phase.get() == Some(PicturePhase::Uploading)).then(|| view! {
                    <progress max="1" prop:value=sent aria-label=app.t(T::Uploading)></progress>
                })}
                <p class="file"><span class="name" title=name>{name}</span> <span class="facts">{facts}</span></p>
                {move || field(|p| p.unseen.then(String::new)).map(|_| view! { <p class="hint">{app.t(T::NoPreview)}</p> })}
                {move || failure().map(|why| view! { <p class="failure" role="alert" data-testid="picture-failure">{why}</p> })}
                <Asked />
                {move || crop.get().map(|_| view! { <p class="hint" data-testid="part">{app.t(T::PartOnly)}</p> })}
                <p class="buttons">
                    {move || seen.get().then(|| view! {
                        <button class="quiet" data-testid="closer" title=app.t(T::LookCloserLong) on:click=enlarge>
                            <Icon path=CLOSER />
                            {app.t(T::LookCloser)}
                        </button>
                    })}
                    {move || if coming.get() {
                        view! { <button class="quiet" data-testid="decline" on:click=decline>{app.t(T::Decline)}</button> }.into_any()
                    } else {
                        view! {
                            {move || (phase.get() == Some(PicturePhase::Uploading)).then(|| view! {
                                <button class="quiet" data-testid="cancel-upload" on:click=move |_| app.person(Person::Leaves)>
                                    {app.t(T::Cancel)}
                                </button>
                            })}
                            <Buttons input first=false />
                        }.into_any()
                    }}
                </p>
            </figcaption>
        </figure>
    }
}
