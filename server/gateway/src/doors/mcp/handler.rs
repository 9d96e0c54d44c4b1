//! Calls of tools, from the protocol to an answer.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Extensions,
    Implementation, ListToolsResult, MetaObject, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use rmcp_actix_web::transport::http::request::Parts;
use serde_json::json;
use wire::{ErrorCode, ImageReady};

use super::kept::KeptFile;
use super::tools::{self, Answer, Question};
use super::{Mcp, Visitor, owner_of_process};
use crate::access::Guests;
use crate::exchange::{Asker, Dialogue, Event, Settings, Source};
use api::Failure;

/// What models are told about all tools together.
const INSTRUCTIONS: &str = "Eyes for whoever has none: ask about a picture, have its text read or have it described. Each result has a handle of its picture, by which the next call may name it.";

/// Where calls come from.
#[derive(Clone)]
pub enum Origin {
    /// Requests, each of which was let in.
    Request,
    /// Whoever started this process.
    Process(Arc<Guests>),
}

/// Answers calls.
#[derive(Clone)]
pub struct Handler {
    mcp: Arc<Mcp>,
    origin: Origin,
}

impl Handler {
    pub fn new(mcp: Arc<Mcp>, origin: Origin) -> Self {
        Handler { mcp, origin }
    }

    async fn visitor(&self, extensions: &Extensions) -> Result<Arc<Visitor>, Failure> {
        match &self.origin {
            Origin::Process(guests) => {
                let visitor = owner_of_process(guests, &self.mcp.exchanges.hub).await?;
                Ok(Arc::new(visitor))
            }
            Origin::Request => {
                let visitor = extensions
                    .get::<Parts>()
                    .and_then(|parts| parts.extensions.get::<Extensions>())
                    .and_then(|extensions| extensions.get::<Arc<Visitor>>());
                visitor.cloned().ok_or_else(unknown_visitor)
            }
        }
    }

    async fn answer(
        &self,
        question: Question,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Failure> {
        let Mcp { exchanges, .. } = &*self.mcp;
        let visitor = self.visitor(&context.extensions).await?;
        let guest = visitor.guest.lock().take().ok_or_else(unknown_visitor)?;
        let client = guest.client().number();
        let namespace = exchanges.namespace(client, None);
        let eviction = visitor.body.share.eviction.clone();
        let asker = Asker {
            guest,
            owner: visitor.owner,
            namespace,
        };
        let mcp = self.mcp.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let picture =
                mcp.picture(&question.picture, question.region, namespace, &visitor.body)?;
            let shared = &mcp.exchanges.hub.shared;
            let copy = match &picture.source {
                Source::File(file) => KeptFile::copy(file, picture.sha256, client, shared),
                Source::Known(_) => None,
            };
            let dialogue = Dialogue {
                system: question.system,
                question: question.text,
                picture: Some(picture),
                ..Dialogue::default()
            };
            Ok((dialogue, copy, question.sampling))
        });
        let (dialogue, copy, sampling) = reading.await.map_err(|problem| {
            let message = "The server could not read the picture: ask again.";
            Failure::new(ErrorCode::Internal, message).detail(problem.to_string())
        })??;
        let settings = Settings {
            sampling,
            choices: 1,
            traceparent: context.meta.get_traceparent().map(str::to_owned),
            ..Settings::default()
        };
        let mut exchange = exchanges.ask(asker, dialogue, &settings, eviction)?;
        let progress = context.meta.get_progress_token();
        let (mut answer, mut pieces, mut ended) = (String::new(), 0u32, None);
        while let Some(event) = exchange.next().await {
            match event? {
                Event::Started { .. } => {}
                Event::Token { token, .. } => {
                    answer.push_str(&token.text);
                    pieces += 1;
                    let Some(progress) = progress.clone() else {
                        continue;
                    };
                    let told = ProgressNotificationParam::new(progress, pieces.into());
                    // Whoever can't be told is gone, which ends this soon.
                    let _ = context
                        .peer
                        .notify_progress(told.with_message(token.text))
                        .await;
                }
                Event::Done { done, .. } => ended = Some(done),
            }
        }
        let (Some(done), Some(ImageReady { width, height, .. })) = (ended, &exchange.picture)
        else {
            let message = "The server lost the answer: ask again.";
            return Err(Failure::new(ErrorCode::Internal, message));
        };
        Ok(Answer {
            answer,
            picture: copy.map(|copy| self.mcp.kept.put(namespace, copy)),
            width: *width,
            height: *height,
            finish_reason: done.finish_reason,
            usage: done.usage,
            timings: done.timings,
        })
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("glimpse", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::list().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let Some(question) = tools::question(&request.name, arguments) else {
            let message = format!("There is no tool {:?} here: list the tools.", request.name);
            return Err(ErrorData::invalid_params(message, None));
        };
        let answering = async { self.answer(question?, &context).await };
        let answered = tokio::select! {
            answered = answering => answered,
            // Nobody waits for the result any more.
            () = context.ct.cancelled() => {
                return Err(ErrorData::internal_error("The call was cancelled.", None));
            }
        };
        Ok(answered
            .and_then(|answer| result(&answer))
            .unwrap_or_else(refused)
            .into())
    }
}

/// The answer as clients read it: as text for models, and with its fields for programs.
fn result(answer: &Answer) -> Result<CallToolResult, Failure> {
    let fields = serde_json::to_value(answer).map_err(|problem| {
        let message = "The server could not write the answer: ask again.";
        Failure::new(ErrorCode::Internal, message).detail(problem.to_string())
    })?;
    let mut content = vec![ContentBlock::text(&answer.answer)];
    if let Some(handle) = &answer.picture {
        let (width, height) = (answer.width, answer.height);
        content.push(ContentBlock::text(format!(
            "[{width} × {height} pixels; ask again about this picture as {handle}]"
        )));
    }
    let mut result = CallToolResult::success(content);
    result.structured_content = Some(fields);
    Ok(result)
}

/// Why there is no answer, for the model that asked: it may be able to mend that.
fn refused(failure: Failure) -> CallToolResult {
    if let Some(detail) = &failure.detail {
        tracing::warn!(code = %failure.code, detail, "a tool's call was refused");
    }
    let Failure {
        code,
        message,
        retry_after_ms,
        ..
    } = failure;
    let mut result = CallToolResult::error(vec![ContentBlock::text(format!("{code}: {message}"))]);
    let mut meta = MetaObject::new();
    meta.0.insert(
        "glimpse/error".into(),
        json!({ "code": code, "message": message, "retry_after_ms": retry_after_ms }),
    );
    result.meta = Some(meta);
    result
}

fn unknown_visitor() -> Failure {
    let message = "The server lost who asks: send the request again.";
    Failure::new(ErrorCode::Internal, message)
}
