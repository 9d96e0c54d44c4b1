//! Questions become tokens on threads of their own: a long text must hold up nobody's next token, and a format that takes long to
//! compile nobody's question.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};

use api::{
    AnswerFormat, Asker, Conversation, ErrorCode, Failure, FinishReason, PictureKey, RequestId,
    SamplingParams, Turn,
};
use parking_lot::{Condvar, Mutex};
use policy::FairQueue;

use super::LanguageSlot;
use super::admission::not_running;
use super::command::{Command, Question};
use super::failures::panicked;
use super::guard::catch;
use model::network::Language;
use model::prompt::Prompt;
use model::text::{Answer, TextError};

/// Bytes of text for each of the model's positions, beyond which a conversation is refused unread: no text that is one
/// takes so few tokens.
const MOST_BYTES: usize = 32;

/// A question's text, and all that its tokens depend on.
pub struct Text {
    asker: Asker,
    request: RequestId,
    attempt: u32,
    system: String,
    history: Vec<Turn>,
    question: String,
    /// The turn that its picture came with.
    picture: Option<usize>,
    sampling: SamplingParams,
    format: Option<AnswerFormat>,
    logprobs: Option<u32>,
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
            // Stays there too: it tells what stands before the picture.
            system: ask.system.clone(),
            history: std::mem::take(&mut ask.history),
            question: std::mem::take(&mut ask.question),
            picture: ask.pictures.first().map(|shown| shown.turn as usize),
            sampling: ask.sampling.clone(),
            format: ask.format.take(),
            logprobs: ask.logprobs,
            so_far: std::mem::take(&mut ask.so_far),
            open: Arc::downgrade(open),
        }
    }
}

/// What there is to read.
enum Reading {
    Question(Box<Text>),
    /// The system turn that the first question about a picture will have.
    System {
        asker: Asker,
        picture: PictureKey,
        text: String,
    },
}

impl Reading {
    fn asker(&self) -> Asker {
        match self {
            Reading::Question(text) => text.asker,
            Reading::System { asker, .. } => *asker,
        }
    }

    /// Nobody waits for it any more.
    fn is_over(&self) -> bool {
        matches!(self, Reading::Question(text) if text.open.strong_count() == 0)
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
    let texts = texts.chain([&text.system, &text.question]);
    let bytes: usize = texts.map(String::len).sum();
    if bytes > MOST_BYTES * most {
        return Err(full(format!(
            "The conversation has {bytes} bytes, which the model's {most} positions can't hold"
        )));
    }
    let planned = language.plan(&Conversation {
        system: &text.system,
        history: &text.history,
        question: &text.question,
        picture: text.picture,
    });
    let planned = planned.map_err(refused)?;
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
    )
    .with_logprobs(text.logprobs);
    if let Some(format) = &text.format {
        let grammar = language.grammars().and_then(|all| all.compile(format));
        answer = answer.with_grammar(grammar.map_err(refused)?);
    }
    let (_, end) = answer.replay(&text.so_far).map_err(refused)?;
    Ok(Box::new(TokenizedQuestion {
        prompt: planned.prompt,
        answer,
        so_far: text.so_far,
        end,
    }))
}

/// What a question is told whose text can't be read, or whose answer can't have its format.
pub fn refused(error: TextError) -> Failure {
    let code = match error {
        TextError::Format(_) => ErrorCode::BadFormat,
        _ => ErrorCode::Internal,
    };
    Failure::new(code, error.to_string())
}

/// What a worker is told of what was read.
fn result(language: Option<&Arc<dyn Language>>, reading: Reading) -> Command {
    match reading {
        Reading::Question(text) => {
            let (request, attempt) = (text.request, text.attempt);
            let read = catch(|| match language {
                Some(language) => read(language.as_ref(), *text),
                None => Err(not_running()),
            });
            let read = read.unwrap_or_else(|what| {
                tracing::error!(panic = %what, "reading a question panicked");
                Err(panicked())
            });
            Command::Tokenized {
                request,
                attempt,
                read,
            }
        }
        Reading::System {
            asker,
            picture: key,
            text,
        } => {
            // What can't be read is told to the question; until then the model looks at the picture as if there were none.
            let opening = catch(|| opening(language?.as_ref(), &text));
            Command::LookAhead {
                asker,
                key,
                opening: opening.unwrap_or_default(),
            }
        }
    }
}

/// What a conversation with this system turn begins with, where the model has room for it.
fn opening(language: &dyn Language, system: &str) -> Option<Prompt> {
    let most = language.shape().positions;
    let system = Some(system).filter(|system| system.len() <= MOST_BYTES * most)?;
    let opening = language.opening(system).ok()?;
    (opening.used() < most).then_some(opening)
}

/// Reads for a worker, which gets each question back as [`Command::Tokenized`]. Sessions take turns.
pub struct Tokenization {
    plain: Arc<Shared>,
    /// Questions whose answers have a format, which is compiled.
    formatted: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    arrived: Condvar,
}

#[derive(Default)]
struct Line {
    readings: FairQueue<Reading>,
    closed: bool,
}

impl Line {
    /// Gives back the memory of what nobody waits for any more.
    fn drop_ended(&mut self) {
        self.readings.take_where(Reading::is_over);
    }
}

impl Tokenization {
    /// Starts the threads, which end with the tokenization.
    pub fn start(
        number: usize,
        language: Arc<LanguageSlot>,
        commands: Sender<Command>,
    ) -> std::io::Result<Self> {
        let start = |name: &str| {
            let shared = Arc::new(Shared::default());
            let (line, language, commands) = (shared.clone(), language.clone(), commands.clone());
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    while let Some(reading) = line.next() {
                        if commands.send(result(language.get(), reading)).is_err() {
                            return;
                        }
                    }
                })?;
            std::io::Result::Ok(shared)
        };
        Ok(Tokenization {
            plain: start("tokenization")?,
            formatted: start("formats")?,
        })
    }

    /// Reads it when it is its turn, unless the question is over by then.
    pub fn read(&self, text: Text) {
        let lane = match text.format {
            Some(_) => &self.formatted,
            None => &self.plain,
        };
        lane.push(Reading::Question(Box::new(text)));
    }

    /// Reads the system turn that the first question about a picture will have; [`Command::LookAhead`] comes of it.
    pub fn read_system(&self, asker: Asker, picture: PictureKey, text: String) {
        self.plain.push(Reading::System {
            asker,
            picture,
            text,
        });
    }
}

#[cfg(test)]
impl Tokenization {
    /// Texts in line.
    pub fn waiting(&self) -> usize {
        let lanes = [&self.plain, &self.formatted];
        let waiting = lanes.map(|lane| lane.line.lock().readings.len());
        waiting.iter().sum()
    }
}

impl Drop for Tokenization {
    fn drop(&mut self) {
        for lane in [&self.plain, &self.formatted] {
            lane.line.lock().closed = true;
            lane.arrived.notify_one();
        }
    }
}

impl Shared {
    fn push(&self, reading: Reading) {
        let mut line = self.line.lock();
        line.drop_ended();
        line.readings.push(reading.asker(), reading);
        drop(line);
        self.arrived.notify_one();
    }

    /// What is next, once there is something; none once the tokenization is gone.
    fn next(&self) -> Option<Reading> {
        let mut line = self.line.lock();
        loop {
            if line.closed {
                return None;
            }
            line.drop_ended();
            if let Some(reading) = line.readings.pop(|_| true) {
                return Some(reading);
            }
            self.arrived.wait(&mut line);
        }
    }
}

#[cfg(test)]
mod tests;
