//! Questions become tokens on a thread of their own: a long text must hold up nobody's next token.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, Weak};

use api::{Asker, ErrorCode, Failure, FinishReason, RequestId, SamplingParams, Turn};
use parking_lot::{Condvar, Mutex};
use policy::FairQueue;

use super::admission::not_running;
use super::command::{Command, Question};
use super::failures::panicked;
use super::guard::catch;
use model::network::Language;
use model::prompt::Prompt;
use model::text::Answer;

/// Bytes of text for each of the model's positions, beyond which a conversation is refused unread: no text that is one
/// takes so few tokens.
const MOST_BYTES: usize = 32;

/// A question's text, and all that its tokens depend on.
pub struct Text {
    asker: Asker,
    request: RequestId,
    attempt: u32,
    history: Vec<Turn>,
    question: String,
    pictures: usize,
    sampling: SamplingParams,
    so_far: Vec<u32>,
    open: Weak<()>,
}

impl Text {
    /// Takes the text out of a question.
    pub fn of(question: &mut Question) -> Self {
        let Question { ask, open, .. } = question;
        Text {
            asker: ask.asker,
            request: ask.request,
            attempt: ask.attempt,
            history: std::mem::take(&mut ask.history),
            question: std::mem::take(&mut ask.question),
            pictures: ask.pictures.len(),
            sampling: ask.sampling.clone(),
            so_far: std::mem::take(&mut ask.so_far),
            open: Arc::downgrade(open),
        }
    }
}

/// A question as the model takes it.
pub struct TokenizedQuestion {
    pub prompt: Prompt,
    /// The answer to generate: of as many tokens as were asked for, cut to what the model's length leaves.
    pub answer: Answer,
    /// The answer's ids so far.
    pub so_far: Vec<u32>,
    /// Why nothing follows them, if so.
    pub end: Option<FinishReason>,
}

/// Makes tokens of a question.
fn read(language: &dyn Language, text: Text) -> Result<Box<TokenizedQuestion>, Failure> {
    let most = language.shape().positions;
    let full = |what: String| {
        let what = format!("{what}: start a new conversation, or send a shorter history.");
        Failure::new(ErrorCode::ContextFull, what)
    };
    let turns = text.history.iter();
    let texts = turns.flat_map(|turn| [&turn.question, &turn.answer]);
    let bytes: usize = texts.chain([&text.question]).map(String::len).sum();
    if bytes > MOST_BYTES * most {
        return Err(full(format!(
            "The conversation has {bytes} bytes, which the model's {most} positions can't hold"
        )));
    }
    let planned = language.plan(&text.history, &text.question, text.pictures);
    let planned = planned.map_err(|e| Failure::new(ErrorCode::Internal, e.to_string()))?;
    let used = planned.prompt.used();
    if used >= most {
        return Err(full(format!(
            "The conversation takes {used} of the model's {most} positions, so there is no room for an answer"
        )));
    }
    let asked = usize::try_from(text.sampling.max_new_tokens).unwrap_or(usize::MAX);
    let mut answer = Answer::new(
        language.tokenizer().clone(),
        &text.sampling,
        &planned.ids,
        language.ends(),
        asked.min(most - used),
    );
    let (_, end) = answer.replay(&text.so_far);
    Ok(Box::new(TokenizedQuestion {
        prompt: planned.prompt,
        answer,
        so_far: text.so_far,
        end,
    }))
}

/// Reads for a worker, which gets each question back as [`Command::Tokenized`]. Sessions take turns.
pub struct Tokenization {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    arrived: Condvar,
}

#[derive(Default)]
struct Line {
    texts: FairQueue<Text>,
    closed: bool,
}

impl Line {
    /// Gives back the memory of what nobody waits for any more.
    fn drop_ended(&mut self) {
        self.texts.take_where(|text| text.open.strong_count() == 0);
    }
}

impl Tokenization {
    /// Starts the thread, which ends with the tokenization.
    pub fn start(
        number: usize,
        language: Arc<OnceLock<Arc<dyn Language>>>,
        commands: Sender<Command>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let line = shared.clone();
        std::thread::Builder::new()
            .name(format!("tokenization-{number}"))
            .spawn(move || {
                while let Some(text) = line.next() {
                    let (request, attempt) = (text.request, text.attempt);
                    let read = catch(|| match language.get() {
                        Some(language) => read(language.as_ref(), text),
                        None => Err(not_running()),
                    });
                    let read = read.unwrap_or_else(|what| {
                        tracing::error!(panic = %what, "reading a question panicked");
                        Err(panicked())
                    });
                    let read = Command::Tokenized {
                        request,
                        attempt,
                        read,
                    };
                    if commands.send(read).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Tokenization { shared })
    }

    /// Reads it when it is its turn, unless the question is over by then.
    pub fn read(&self, text: Text) {
        let mut line = self.shared.line.lock();
        line.drop_ended();
        line.texts.push(text.asker, text);
        drop(line);
        self.shared.arrived.notify_one();
    }
}

#[cfg(test)]
impl Tokenization {
    /// Texts in line.
    pub fn waiting(&self) -> usize {
        self.shared.line.lock().texts.len()
    }
}

impl Drop for Tokenization {
    fn drop(&mut self) {
        self.shared.line.lock().closed = true;
        self.shared.arrived.notify_one();
    }
}

impl Shared {
    /// The next text, once there is one; none once the tokenization is gone.
    fn next(&self) -> Option<Text> {
        let mut line = self.line.lock();
        loop {
            if line.closed {
                return None;
            }
            line.drop_ended();
            if let Some(text) = line.texts.pop(|_| true) {
                return Some(text);
            }
            self.arrived.wait(&mut line);
        }
    }
}

#[cfg(test)]
mod tests;
