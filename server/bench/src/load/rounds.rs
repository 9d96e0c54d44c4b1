//! Rounds, before and after, in turn: server after server, round after round, so that whatever else the machine does
//! meets all of them alike.

use std::ffi::OsString;
use std::iter::once;

use indicatif::ProgressBar;

use super::http;
use super::picture::Pictures;
use super::server::Server;
use super::settings::{AS_IT_COMES, Launch, Way};
use crate::report::stats::{Samples, Stage};
use crate::report::{Failures, Variant};
use client::{About, Client, Failure, ms};

/// As long as people's are.
const SYSTEM: &str = "You answer questions about pictures for people who can't see them. Be brief, be exact, say what you are not sure of, and answer in the language of the question.";

/// What every round sends.
#[derive(Clone)]
pub struct Script {
    pub pictures: Pictures,
    /// Counts the pictures sent.
    pub sent: u64,
    pub prompt: String,
    pub max_new_tokens: u64,
}

impl Script {
    /// A picture that was never sent before.
    pub fn picture(&mut self) -> Vec<u8> {
        self.sent += 1;
        self.pictures.nth(self.sent)
    }
}

/// A server and what was measured of it.
pub struct Measured {
    pub server: Server,
    pub variant: Variant,
}

impl Measured {
    pub fn new(server: Server, way: &Way) -> Self {
        Measured {
            server,
            variant: Variant {
                name: way.name.to_owned(),
                flags: way.flags.join(" "),
                eager: way.eager,
                samples: Samples::default(),
                failures: Failures::default(),
            },
        }
    }

    /// Starts a server in one of its ways.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(launch: &Launch, way: &Way) -> Result<Self, String> {
        let off = way.flags.iter().map(OsString::from);
        let flags: Vec<OsString> = launch.flags.iter().cloned().chain(off).collect();
        Ok(Measured::new(Server::start(&launch.program, &flags)?, way))
    }

    /// One round, into the samples unless it is only to warm up.
    pub async fn round(&mut self, script: &mut Script, counts: bool) -> Option<String> {
        let picture = script.picture();
        match round(&self.server.url, &picture, script, self.variant.eager).await {
            Ok((samples, answer)) => {
                if counts {
                    self.variant.samples.append(samples);
                }
                Some(answer)
            }
            Err(failure) => {
                self.variant.failures.add(&failure);
                None
            }
        }
    }
}

/// A user's visit: a picture, a question as soon as nothing more can be done before it, the next question, and two at
/// once. Returns the first answer as well.
async fn round(
    url: &str,
    picture: &[u8],
    script: &Script,
    eager: bool,
) -> Result<(Samples, String), Failure> {
    let mut samples = Samples::default();
    let opened = std::time::Instant::now();
    let mut client = Client::connect(url).await?;
    samples.add(Stage::Connect, ms(opened, std::time::Instant::now()));
    client.until_ready().await?;

    let sent = client.upload(picture).await?;
    samples.add(Stage::Upload, ms(sent.started, sent.received));
    let ready = client.image_ready().await?.timings;
    samples.add(Stage::Decode, ready.decode_ms + ready.preprocess_ms);
    let mut encoded = None;
    if eager {
        let (at, message) = client.image_encoded().await?;
        samples.add(Stage::Look, ms(sent.started, at));
        encoded = Some(message);
    }

    let (prompt, most) = (&script.prompt, script.max_new_tokens);
    let answer = client.ask(About::Upload(sent.upload), prompt, most).await?;
    let encoded = match encoded {
        Some(encoded) => encoded,
        None => client.image_encoded().await?.1,
    };
    samples.add(Stage::Vision, encoded.timings.vision_ms);
    samples.add(Stage::Prefill, encoded.timings.prefill_ms);
    samples.add(Stage::FirstToken, answer.first_token_ms());
    if let Some(token) = answer.per_token_ms() {
        samples.add(Stage::Token, token);
    }
    samples.add(Stage::Answer, answer.total_ms());
    samples.add(Stage::Total, ms(sent.started, answer.finished));
    let outside = answer.total_ms() - answer.timings().total_ms;
    samples.add(Stage::Outside, outside);

    let next = client
        .ask(About::Conversation(answer.conversation()), prompt, most)
        .await?;
    samples.add(Stage::NextFirstToken, next.first_token_ms());
    let about = About::Upload(sent.upload);
    let pair = client.ask_at_once([about, about], prompt, most).await?;
    let last = pair
        .iter()
        .map(|answer| answer.total_ms())
        .fold(0.0, f64::max);
    samples.add(Stage::Pair, last);
    client.close().await;
    if let Some(first_ms) = http::next_first_token(url, picture, prompt, most).await {
        samples.add(Stage::HttpNextFirstToken, first_ms);
    }
    if eager {
        let first_ms = first_token_behind_system(url, picture, prompt, most).await?;
        samples.add(Stage::SystemFirstToken, first_ms);
    }
    Ok((samples, answer.text))
}

/// Milliseconds to the first token of a first question behind a system turn, asked when the picture is encoded.
async fn first_token_behind_system(
    url: &str,
    picture: &[u8],
    prompt: &str,
    most: u64,
) -> Result<f64, Failure> {
    let mut client = Client::connect(url).await?;
    client.system = Some(SYSTEM.to_owned());
    client.until_ready().await?;
    let sent = client.upload(picture).await?;
    client.image_encoded().await?;
    let answer = client.ask(About::Upload(sent.upload), prompt, most).await?;
    client.close().await;
    Ok(answer.first_token_ms())
}

/// Rounds with every server in turn, each time beginning with another.
pub async fn side_by_side(
    servers: &mut [Measured],
    script: &mut Script,
    runs: u32,
    bar: &ProgressBar,
) -> Option<String> {
    let mut answer = None;
    for measured in servers.iter_mut() {
        // What warm-up does or does not is told by the cold starts; here the first round would be an outlier.
        measured.round(script, false).await;
    }
    let count = servers.len();
    for run in 0..runs as usize {
        for turn in 0..count {
            let measured = &mut servers[(run + turn) % count];
            bar.set_message(measured.variant.name.clone());
            let said = measured.round(script, true).await;
            answer = answer.or(said);
            bar.inc(1);
        }
    }
    answer
}

/// Starts servers anew, with warm-up and without in turn, and measures until each has answered its first question.
///
/// # Errors
/// If one does not start.
pub async fn cold_starts(
    launch: &Launch,
    script: &mut Script,
    bar: &ProgressBar,
) -> Result<Vec<Variant>, String> {
    let mut variants: Vec<Variant> = Vec::new();
    for _ in 0..launch.cold {
        let ways = once(&AS_IT_COMES).chain(&launch.cold_before);
        for (index, way) in ways.enumerate() {
            bar.set_message(format!("cold start, {}", way.name));
            let mut measured = Measured::start(launch, way)?;
            let samples = &mut measured.variant.samples;
            samples.add(Stage::Listening, measured.server.listening_ms);
            let ready = async {
                let mut client = Client::connect(&measured.server.url).await?;
                let ready = client.until_ready().await?;
                client.close().await;
                Ok::<_, Failure>(ready)
            };
            match ready.await {
                Ok(at) => samples.add(Stage::Loaded, ms(measured.server.started, at)),
                Err(failure) => measured.variant.failures.add(&failure),
            }
            measured.round(script, true).await;
            bar.inc(1);
            match variants.get_mut(index) {
                Some(variant) => variant.append(measured.variant),
                None => variants.push(measured.variant),
            }
        }
    }
    Ok(variants)
}
