//! Spans to an OpenTelemetry collector: what one would get of a picture and a question about it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::support::{binary, data};
use bench::load::Server;
use client::{About, Client};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// What the collector is sent with one request.
struct Sent {
    path: String,
    service: String,
    spans: Vec<Span>,
}

/// Reads requests of one connection until it ends.
fn listen(stream: TcpStream, out: &Sender<Sent>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        for of in request.resource_spans {
            let resource = of.resource.unwrap().attributes;
            let service = resource.into_iter().find(|a| a.key == "service.name");
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let _ = out.send(Sent {
                path: path.clone(),
                service: match service.and_then(|a| a.value?.value) {
                    Some(Value::StringValue(name)) => name,
                    other => panic!("no name of the service: {other:?}"),
                },
                spans: spans.collect(),
            });
        }
        write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// A collector that hands on what it is sent; its address.
fn collector() -> (String, Receiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (out, sent) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A connection that breaks off is the client's affair.
            let _ = listen(stream.unwrap(), &out);
        }
    });
    (address, sent)
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    let found = span.attributes.iter().find(|a| a.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

#[test]
fn a_collector_gets_each_stage_of_a_picture_and_a_question() {
    const QUESTION: &str = "What colour is the unmistakable circle?";
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";
    let (address, sent) = collector();
    let program = binary();
    let flags = ["--warmup", "off", "--otlp-endpoint", &address];
    let server = Server::start(&program, &flags.map(Into::into)).unwrap();
    let picture = data("../../public/samples/shapes.jpg");
    let picture = std::fs::read(picture).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let mut client = Client::connect(&server.url).await.unwrap();
        client.until_ready().await.unwrap();
        let upload = client.upload(&picture).await.unwrap().upload;
        let about = About::Upload(upload);
        client.traceparent = Some(format!("00-{TRACE}-{PARENT}-01"));
        let answer = client.ask(about, QUESTION, 64).await.unwrap();
        client.close().await;
        answer
    });

    // Spans come in batches, every few seconds.
    let end = Instant::now() + Duration::from_secs(60);
    let mut spans: Vec<Span> = Vec::new();
    while spans.len() < 8 {
        match sent.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(batch) => {
                assert_eq!(batch.path, "/v1/traces");
                assert_eq!(batch.service, "glimpse");
                spans.extend(batch.spans);
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(e) => panic!("{e}"),
        }
    }
    let by_name: HashMap<&str, &Span> = spans.iter().map(|s| (s.name.as_str(), s)).collect();
    let find = |name: &str| {
        let names: Vec<_> = by_name.keys().collect();
        *by_name
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {names:?}"))
    };
    for (whole, stages) in [
        ("request", &["queue", "prefill"][..]),
        ("picture", &["upload", "encode"]),
    ] {
        let whole = find(whole);
        // A question is a part of its client's trace; a picture begins one.
        let parent = match whole.name.as_str() {
            "request" => (
                wire::to_hex(&whole.trace_id),
                wire::to_hex(&whole.parent_span_id),
            ),
            _ => (
                TRACE.to_owned(),
                wire::to_hex(&whole.parent_span_id) + PARENT,
            ),
        };
        assert_eq!(parent, (TRACE.to_owned(), PARENT.to_owned()));
        for stage in stages {
            let stage = find(stage);
            assert_eq!(stage.parent_span_id, whole.span_id);
            assert_eq!(stage.trace_id, whole.trace_id);
            assert!(whole.start_time_unix_nano <= stage.start_time_unix_nano);
            assert!(stage.end_time_unix_nano <= whole.end_time_unix_nano);
        }
    }
    // Both a picture and a question are decoded.
    assert_eq!(spans.iter().filter(|s| s.name == "decode").count(), 2);
    assert_eq!(spans.len(), 8);

    let request = find("request");
    let took = (request.end_time_unix_nano - request.start_time_unix_nano) as f64 / 1e6;
    assert!(took <= answer.total_ms(), "{took} ms");
    let done = answer.done.as_ref().unwrap();
    let tokens = attribute(request, "completion_tokens");
    assert!(
        matches!(tokens, Some(Value::IntValue(n)) if *n as u64 == done.usage.completion_tokens)
    );
    let Some(Value::StringValue(session)) = attribute(request, "session") else {
        panic!("no session")
    };
    // The tag, from which nobody learns the id.
    assert!(session.len() == 8 && session.chars().all(|c| c.is_ascii_hexdigit()));
    // Nothing of what was said or shown.
    for span in &spans {
        let all = format!("{span:?}");
        assert!(!all.contains("unmistakable") && !all.contains(answer.text.trim()));
    }
}

#[test]
fn a_server_answers_without_its_collector() {
    // Nobody listens there any more.
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let program = binary();
    let flags = ["--warmup", "off", "--otlp-endpoint", &address];
    let server = Server::start(&program, &flags.map(Into::into)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = runtime.block_on(async {
        let mut client = Client::connect(&server.url).await.unwrap();
        client.until_ready().await.unwrap();
        let picture = data("../../public/samples/shapes.jpg");
        let picture = std::fs::read(picture).unwrap();
        let upload = client.upload(&picture).await.unwrap().upload;
        let answer = client.ask(About::Upload(upload), "What is in the picture?", 16);
        answer.await.unwrap().text
    });
    assert!(!text.is_empty());
}
