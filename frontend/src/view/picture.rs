//! The picture: where it is dropped, how far it is, what it looks like.

use leptos::{html::Input, prelude::*};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, Event, FileList, HtmlInputElement, Response};

use super::icon::{CAMERA, IMAGE, Icon};
use crate::{
    actions, dom,
    i18n::{Lang, T},
    state::{App, Picture, PicturePhase},
    upload,
};

/// Takes the first picture of `files`, as brought by an event at `when`.
pub fn take(app: App, files: Option<FileList>, when: f64) -> bool {
    let Some(files) = files.filter(|files| files.length() > 0) else {
        return false;
    };
    let all = (0..files.length()).filter_map(|i| files.get(i));
    // A file whose kind the browser does not know may well be a picture: the server decides.
    let mut pictures = all.filter(|f| f.type_().is_empty() || f.type_().starts_with("image/"));
    let Some(first) = pictures.next() else {
        app.say(app.text(T::NotAPicture), true);
        return true;
    };
    actions::new_conversation(app);
    upload::open(app, first, when);
    if files.length() > 1 {
        app.say(app.text(T::OnePicture), false);
    }
    let fine = window().match_media("(pointer: fine)").ok().flatten();
    if fine.is_some_and(|m| m.matches()) {
        super::focus_question();
    }
    true
}

#[component]
pub fn PicturePane(app: App) -> impl IntoView {
    let input = NodeRef::<Input>::new();
    let changed = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        take(app, input.files(), event.time_stamp());
        // The same file may be chosen again.
        input.set_value("");
    };
    let has = Memo::new(move |_| app.picture.with(Option::is_some));
    view! {
        <section class="picture" aria-label=app.t(T::ThePicture)>
            <input
                class="offscreen"
                type="file"
                accept="image/*"
                tabindex="-1"
                aria-label=app.t(T::Choose)
                data-testid="file-input"
                node_ref=input
                on:change=changed
            />
            {move || if has.get() {
                view! { <Viewfinder app input /> }.into_any()
            } else {
                view! { <Empty app input /> }.into_any()
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
fn Buttons(app: App, input: NodeRef<Input>, first: bool) -> impl IntoView {
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
fn Empty(app: App, input: NodeRef<Input>) -> impl IntoView {
    view! {
        <div class="hero">
            <h2>{app.t(T::Tagline)}</h2>
            <p>{app.t(T::Lead)}</p>
        </div>
        <div class="viewfinder drop" data-testid="drop-zone">
            <p class="drop-here">{app.t(T::Drop)}</p>
            <p class="or">{app.t(T::OrPaste)}</p>
            <p class="buttons"><Buttons app input first=true /></p>
        </div>
        <Samples app />
    }
}

#[derive(Clone, serde::Deserialize)]
struct Sample {
    file: String,
    alt: Words,
    questions: Vec<Words>,
}

/// A sentence in both languages.
#[derive(Clone, serde::Deserialize)]
struct Words {
    en: String,
    zh: String,
}

impl Words {
    fn of(&self, lang: Lang) -> String {
        match lang {
            Lang::En => self.en.clone(),
            Lang::Zh => self.zh.clone(),
        }
    }
}

async fn fetch(path: &str) -> Result<Response, JsValue> {
    let response: Response = JsFuture::from(window().fetch_with_str(path))
        .await?
        .dyn_into()?;
    if response.ok() {
        Ok(response)
    } else {
        Err(JsValue::NULL)
    }
}

async fn sample_list() -> Result<Vec<Sample>, JsValue> {
    let text = JsFuture::from(fetch("samples/samples.json").await?.text()?).await?;
    serde_json::from_str(&text.as_string().unwrap_or_default()).map_err(|e| e.to_string().into())
}

#[component]
fn Samples(app: App) -> impl IntoView {
    let samples = RwSignal::new(Vec::<Sample>::new());
    spawn_local(async move {
        if let Ok(list) = sample_list().await {
            let _ = samples.try_set(list);
        }
    });
    let pick = move |sample: Sample, when: f64| {
        spawn_local(async move {
            let path = format!("samples/{}", sample.file);
            let blob = async {
                JsFuture::from(fetch(&path).await?.blob()?)
                    .await?
                    .dyn_into::<Blob>()
            };
            match blob.await {
                Ok(blob) => {
                    actions::new_conversation(app);
                    let lang = app.lang.get_untracked();
                    app.suggestions
                        .set(sample.questions.iter().map(|q| q.of(lang)).collect());
                    upload::open_blob(app, blob, sample.file, when, None);
                    super::focus_question();
                }
                Err(_) => app.say(app.text(T::Unreadable), true),
            }
        });
    };
    view! {
        <Show when=move || samples.with(|s| !s.is_empty())>
            <div class="samples">
                <p>{app.t(T::TryOne)}</p>
                <ul>
                    <For each=move || samples.get() key=|sample| sample.file.clone() let(sample)>
                        {
                            let shown = sample.clone();
                            let alt = move || shown.alt.of(app.lang.get());
                            let source = format!("samples/{}", sample.file);
                            view! {
                                <li>
                                    <button
                                        data-testid="sample"
                                        on:click=move |event| pick(sample.clone(), event.time_stamp())
                                    >
                                        <img src=source alt=alt loading="lazy" width="160" height="120" />
                                    </button>
                                </li>
                            }
                        }
                    </For>
                </ul>
            </div>
        </Show>
    }
}

/// The picture of the conversation, in its frame.
#[component]
fn Viewfinder(app: App, input: NodeRef<Input>) -> impl IntoView {
    let field =
        move |f: fn(&Picture) -> Option<String>| app.picture.with(|p| p.as_ref().and_then(f));
    let phase = Memo::new(move |_| app.picture.with(|p| p.as_ref().map(|p| p.phase.clone())));
    let preview = Memo::new(move |_| field(|p| p.preview.clone()));
    let name = Memo::new(move |_| field(|p| Some(p.name.clone())).unwrap_or_default());
    let label = move || match phase.get() {
        Some(PicturePhase::Received) => app.filled(T::Received, &[]),
        Some(PicturePhase::Uploading) => {
            let (percent, speed) = app.picture.with(|p| {
                p.as_ref()
                    .map_or((0, None), |p| (100 * p.sent / p.sending.max(1), p.speed))
            });
            let speed = speed
                .map(|s| format!(" · {}/s", dom::size(s as u64)))
                .unwrap_or_default();
            format!("{} {percent} %{speed}", app.filled(T::Uploading, &[]))
        }
        Some(PicturePhase::Looking) => app.filled(T::Looking, &[]),
        Some(PicturePhase::Ready) => app.filled(T::Ready, &[]),
        Some(PicturePhase::Failed(_)) => app.filled(T::Failed, &[]),
        None => String::new(),
    };
    let facts = move || {
        app.picture.with(|p| {
            p.as_ref().map(|p| {
                let size = p
                    .size
                    .map(|(w, h)| app.filled(T::Pixels, &[&w.to_string(), &h.to_string()]));
                [Some(dom::size(p.bytes)), size]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" · ")
            })
        })
    };
    let sent = move || {
        app.picture.with(|p| {
            p.as_ref()
                .map_or(0.0, |p| p.sent as f64 / p.sending.max(1) as f64)
        })
    };
    let failure = move || match phase.get() {
        Some(PicturePhase::Failed(failure)) => Some(failure.message),
        _ => None,
    };
    view! {
        <figure
            class="viewfinder"
            data-testid="picture-card"
            data-phase=move || phase.get().map(|p| p.name())
        >
            <div class="frame">
                {move || match preview.get() {
                    Some(url) => view! { <img src=url alt=name data-testid="preview" /> }.into_any(),
                    None => view! { <div class="placeholder"><Icon path=IMAGE /></div> }.into_any(),
                }}
                <span class="scan" aria-hidden="true"></span>
            </div>
            <figcaption>
                <p class="phase" role="status" data-testid="picture-phase">{label}</p>
                {move || (phase.get() == Some(PicturePhase::Uploading)).then(|| view! {
                    <progress max="1" prop:value=sent aria-label=app.t(T::Uploading)></progress>
                })}
                <p class="file"><span class="name" title=name>{name}</span> <span class="facts">{facts}</span></p>
                {move || field(|p| p.unseen.then(String::new)).map(|_| view! { <p class="hint">{app.t(T::NoPreview)}</p> })}
                {move || failure().map(|why| view! { <p class="failure" role="alert" data-testid="picture-failure">{why}</p> })}
                <p class="buttons"><Buttons app input first=false /></p>
            </figcaption>
        </figure>
    }
}
