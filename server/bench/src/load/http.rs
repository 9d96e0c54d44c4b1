//! A user of the HTTP API: all of the conversation comes with each request, the picture too.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::ms;
use serde_json::{Value, json};

/// Milliseconds from sending a conversation's second question to the first word of its answer; `None` if the server does not
/// answer over HTTP. `url` is the socket's.
pub async fn next_first_token(url: &str, picture: &[u8], prompt: &str, most: u64) -> Option<f64> {
    let url = url.replacen("ws", "http", 1);
    let url = format!("{}/v1/chat/completions", url.strip_suffix("/ws")?);
    let picture = format!("data:image/jpeg;base64,{}", STANDARD.encode(picture));
    let prompt = prompt.to_owned();
    let both = move || {
        // One connection for both, as clients have it.
        let agent = ureq::Agent::new_with_defaults();
        let question = json!({ "type": "text", "text": prompt });
        let picture = json!({ "type": "image_url", "image_url": { "url": picture } });
        let mut messages = vec![json!({ "role": "user", "content": [picture, question] })];
        let (_, said) = ask(&agent, &url, &messages, most)?;
        messages.push(json!({ "role": "assistant", "content": said }));
        messages.push(json!({ "role": "user", "content": prompt }));
        ask(&agent, &url, &messages, most).map(|(first_ms, _)| first_ms)
    };
    tokio::task::spawn_blocking(both).await.ok()?
}

/// The time to the first word, and all of them.
fn ask(agent: &ureq::Agent, url: &str, messages: &[Value], most: u64) -> Option<(f64, String)> {
    let body = json!({ "messages": messages, "stream": true, "max_tokens": most });
    let body = serde_json::to_vec(&body).ok()?;
    let sent = Instant::now();
    let request = agent.post(url).content_type("application/json");
    let answer = request.send(&body[..]).ok()?;
    let (mut said, mut first) = (String::new(), None);
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.ok()?;
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            continue;
        };
        let words = chunk["choices"][0]["delta"]["content"].as_str();
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            first.get_or_insert_with(|| ms(sent, Instant::now()));
            said.push_str(words);
        }
    }
    first.map(|first| (first, said))
}
