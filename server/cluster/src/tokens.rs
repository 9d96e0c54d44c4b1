//! The model's tokens, which a worker knows and a gateway asks for.

use std::sync::Arc;
use std::time::Duration;

use api::encoding::decode;
use api::{Conversation, ErrorCode, Failure, Tokens};
use async_nats::Client;
use futures_util::StreamExt;
use tokio::runtime::Handle;

use crate::message::{TokensAsked, TokensTold};
use crate::nats::{TOKENS, written};

/// Asks any worker.
pub struct Asking {
    pub client: Client,
    /// Where the connection lives.
    pub runtime: Handle,
}

impl Asking {
    fn ask(&self, asked: &TokensAsked) -> Result<TokensTold, Failure> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let bytes = written(asked);
        if bytes.len() > self.client.server_info().max_payload {
            let message =
                "The text is longer than what is counted where many machines serve: shorten it.";
            return Err(Failure::new(ErrorCode::TextTooLong, message));
        }
        let client = self.client.clone();
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(client.request(TOKENS, bytes).await);
        });
        let nobody = |detail: String| {
            let message = "No worker counts tokens now: ask again in a moment.";
            Failure::new(ErrorCode::Loading, message)
                .retry_after(1000.0)
                .detail(detail)
        };
        let told = answered
            .recv_timeout(PATIENCE)
            .map_err(|it| nobody(it.to_string()))?;
        let told = told.map_err(|it| nobody(it.to_string()))?;
        match decode(&told.payload).map_err(|it| nobody(it.to_string()))? {
            TokensTold::Failed(failure) => Err(failure),
            told => Ok(told),
        }
    }
}

fn odd() -> Failure {
    Failure::new(
        ErrorCode::Internal,
        "A worker told something else than what it was asked.",
    )
}

impl Tokens for Asking {
    fn encode(&self, text: &str, begins: bool) -> Result<Vec<u32>, Failure> {
        let text = text.to_owned();
        match self.ask(&TokensAsked::Encode { text, begins })? {
            TokensTold::Ids(ids) => Ok(ids),
            _ => Err(odd()),
        }
    }

    fn prompt(&self, conversation: &Conversation<'_>) -> Result<Vec<u32>, Failure> {
        let asked = TokensAsked::Prompt {
            system: conversation.system.to_owned(),
            history: conversation.history.to_vec(),
            question: conversation.question.to_owned(),
            picture: conversation.picture.map(|turn| turn as u32),
        };
        match self.ask(&asked)? {
            TokensTold::Ids(ids) => Ok(ids),
            _ => Err(odd()),
        }
    }

    fn bytes(&self, ids: &[u32]) -> Result<Vec<Vec<u8>>, Failure> {
        match self.ask(&TokensAsked::Bytes { ids: ids.to_vec() })? {
            TokensTold::Bytes(bytes) => Ok(bytes),
            _ => Err(odd()),
        }
    }
}

/// Answers gateways, one of all workers each question.
pub async fn answer(client: Client, tokens: Arc<dyn Tokens>) {
    loop {
        let Ok(mut asked) = client.queue_subscribe(TOKENS, "workers".into()).await else {
            return;
        };
        while let Some(message) = asked.next().await {
            let Some(reply) = message.reply else {
                continue;
            };
            let (client, tokens) = (client.clone(), tokens.clone());
            tokio::spawn(async move {
                let counted = move || match decode(&message.payload) {
                    Ok(asked) => tell(&*tokens, &asked).unwrap_or_else(TokensTold::Failed),
                    Err(problem) => {
                        TokensTold::Failed(Failure::new(ErrorCode::Internal, problem.to_string()))
                    }
                };
                // Beside what carries the answers.
                if let Ok(told) = tokio::task::spawn_blocking(counted).await {
                    let _ = client.publish(reply, written(&told)).await;
                }
            });
        }
    }
}

fn tell(tokens: &dyn Tokens, asked: &TokensAsked) -> Result<TokensTold, Failure> {
    Ok(match asked {
        TokensAsked::Encode { text, begins } => TokensTold::Ids(tokens.encode(text, *begins)?),
        TokensAsked::Bytes { ids } => TokensTold::Bytes(tokens.bytes(ids)?),
        TokensAsked::Prompt {
            system,
            history,
            question,
            picture,
        } => {
            let conversation = Conversation {
                system,
                history,
                question,
                picture: picture.map(|turn| turn as usize),
            };
            TokensTold::Ids(tokens.prompt(&conversation)?)
        }
    })
}
