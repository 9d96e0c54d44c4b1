//! Asks Glimpse about a picture and prints the answer as it comes.
//!
//! `cargo run --release -p glimpse-wire --example ask -- harbour.jpg 'How many boats are there?' [URL]`
//!
//! It is all in this file, with the `tungstenite` crate and the wire's types; an API key goes into GLIMPSE_API_KEY.

use std::error::Error;
use std::io::{Write, stdout};
use std::net::TcpStream;

use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};
use wire::{Ask, ClientMessage, ServerEnvelope, ServerMessage, Upload, frame};

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(picture), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ask PICTURE QUESTION [URL]".into());
    };
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:8080/ws".into());
    let mut request = url.into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", wire::PROTOCOL.parse()?);
    if let Ok(key) = std::env::var("GLIMPSE_API_KEY") {
        headers.insert("Authorization", format!("Bearer {key}").parse()?);
    }
    let (mut socket, _) = tungstenite::connect(request)?;
    let ServerMessage::Welcome(welcome) = read(&mut socket)? else {
        return Err("the server did not say welcome".into());
    };

    let file = std::fs::read(picture)?;
    let bytes = file.len() as u64;
    say(
        &mut socket,
        ClientMessage::Upload(Upload {
            upload: 1,
            bytes,
            ..Upload::default()
        }),
    )?;
    // The question need not wait for the picture, nor the picture for the question.
    say(
        &mut socket,
        ClientMessage::Ask(Box::new(Ask {
            request: "1".into(),
            text: question,
            upload: Some(1),
            ..Ask::default()
        })),
    )?;
    let (mut sent, mut received) = (0, 0);
    for piece in file.chunks(frame::MAX_PAYLOAD) {
        // No more than a window ahead of what the server has.
        while sent + piece.len() as u64 > received + welcome.limits.upload_window {
            match read(&mut socket)? {
                ServerMessage::UploadProgress(progress) => received = progress.received,
                ServerMessage::Error(error) => return Err(error.failure.message.into()),
                _ => {}
            }
        }
        socket.send(Message::binary(frame::encode(1, piece)))?;
        sent += piece.len() as u64;
    }
    loop {
        match read(&mut socket)? {
            ServerMessage::Token(token) => {
                print!("{}", token.text);
                stdout().flush()?;
            }
            ServerMessage::Done(_) => break println!(),
            ServerMessage::Error(error) => return Err(error.failure.message.into()),
            _ => {}
        }
    }
    // Ends the session, and with it all that the server holds of it.
    socket.close(Some(tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    }))?;
    while socket.read().is_ok() {}
    Ok(())
}

fn say(socket: &mut Socket, message: ClientMessage) -> Result<(), Box<dyn Error>> {
    Ok(socket.send(Message::text(serde_json::to_string(&message)?))?)
}

fn read(socket: &mut Socket) -> Result<ServerMessage, Box<dyn Error>> {
    loop {
        match socket.read()? {
            Message::Text(text) => return Ok(ServerEnvelope::read(&text)?.message),
            Message::Close(frame) => return Err(format!("the server closed: {frame:?}").into()),
            _ => {}
        }
    }
}
