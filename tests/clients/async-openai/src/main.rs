//! async-openai, asking about a picture: `glimpse-client-async-openai URL PICTURE`.

use std::error::Error;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestAssistantMessage, ChatCompletionRequestMessage,
    ChatCompletionRequestMessageContentPartImage, ChatCompletionRequestMessageContentPartText,
    ChatCompletionRequestUserMessage, ChatCompletionRequestUserMessageContent,
    CreateChatCompletionRequest, CreateChatCompletionRequestArgs, ImageUrl,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use serde_json::json;

fn request(
    messages: &[ChatCompletionRequestMessage],
) -> Result<CreateChatCompletionRequest, Box<dyn Error>> {
    let mut request = CreateChatCompletionRequestArgs::default();
    request.model("glimpse-demo").temperature(0.0);
    Ok(request.messages(messages).build()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(picture)) = (words.next(), words.next()) else {
        return Err("give a URL and a picture".into());
    };
    let config = OpenAIConfig::new().with_api_base(format!("{url}/v1"));
    let client = Client::with_config(config.with_api_key("none"));
    let shown = STANDARD.encode(std::fs::read(picture)?);
    let shown = ChatCompletionRequestMessageContentPartImage::from(ImageUrl {
        url: format!("data:image/jpeg;base64,{shown}"),
        detail: None,
    });
    let question = ChatCompletionRequestMessageContentPartText::from("Describe the picture.");
    let content =
        ChatCompletionRequestUserMessageContent::Array(vec![shown.into(), question.into()]);
    let mut messages = vec![ChatCompletionRequestUserMessage::from(content).into()];
    let answer = client.chat().create(request(&messages)?).await?;
    let answer = answer.choices[0]
        .message
        .content
        .clone()
        .unwrap_or_default();

    let mut pieces = vec![];
    let mut stream = client.chat().create_stream(request(&messages)?).await?;
    while let Some(chunk) = stream.next().await {
        pieces.extend(chunk?.choices[0].delta.content.clone());
    }
    pieces.retain(|piece| !piece.is_empty());

    messages.push(ChatCompletionRequestAssistantMessage::from(answer.as_str()).into());
    messages.push(ChatCompletionRequestUserMessage::from("How many circles are there?").into());
    let next = client.chat().create(request(&messages)?).await?;
    let usage = next.usage.and_then(|usage| usage.prompt_tokens_details);
    let told = json!({
        "answer": answer,
        "pieces": pieces,
        "next": next.choices[0].message.content,
        "cached": usage.and_then(|details| details.cached_tokens),
    });
    println!("{told}");
    Ok(())
}
