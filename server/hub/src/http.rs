//! Requests to one hub: where they may lead, who hears the token, what is tried again and for how long.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};
use url::Url;

use crate::settings::Site;
use crate::{Code, Error, Hub, Name, Settings, Watch};

const MAX_REDIRECTS: usize = 8;
/// Of a list of files, or an index.
const MAX_REPLY: u64 = 32 << 20;

/// Attempts that may bring nothing, one after the other.
const ATTEMPTS: u32 = 6;
/// Before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Nobody is kept waiting longer by a hub that says when to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Asks a hub about one model.
pub(crate) struct Client<'a> {
    agent: Agent,
    pub site: &'a Site,
    endpoint: Url,
    pub name: &'a Name,
    pub watch: &'a dyn Watch,
    /// Somebody has failed for good: nothing is waited for any more.
    stopped: AtomicBool,
}

/// Why a request brought nothing.
pub(crate) enum Problem {
    /// It would bring nothing the next time either.
    Lasting(Error),
    /// It may bring something once this time is over, or in a while.
    Passing(Error, Option<Duration>),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Lasting(error)
    }
}

/// What the hub itself said of a file, wherever its bytes come from.
#[derive(Default)]
pub(crate) struct Said {
    pub commit: Option<String>,
    pub etag: Option<String>,
    pub size: Option<u64>,
}

/// An answer: a file's or a part's bytes, or only what was said of it.
pub(crate) struct Answer {
    pub said: Said,
    pub response: Response<Body>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Head,
    Get,
}

impl<'a> Client<'a> {
    pub fn new(
        name: &'a Name,
        settings: &'a Settings,
        watch: &'a dyn Watch,
    ) -> Result<Self, Error> {
        let site = settings.site(name.hub);
        let endpoint: Url = site.endpoint.parse().map_err(|problem| {
            let variable = match name.hub {
                Hub::HuggingFace => "HF_ENDPOINT",
                Hub::ModelScope => "MODELSCOPE_ENDPOINT",
            };
            let address = &site.endpoint;
            Error::new(
                Code::Unreachable,
                format!(
                    "{address:?} is no address ({problem}): correct {variable}, or leave it away"
                ),
            )
        })?;
        let agent = Agent::config_builder()
            // Each is judged here: the token goes to the hub alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(settings.patience))
            // A connection on which nothing comes is given up; how long all may take depends on who sends.
            .timeout_per_read(Some(settings.patience))
            .user_agent(concat!("glimpse/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Client {
            agent,
            site,
            endpoint,
            name,
            watch,
            stopped: AtomicBool::new(false),
        })
    }

    /// An address of the hub: each part is one between two slashes, whatever is in it.
    pub fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends what is under way once all is stopped.
    ///
    /// # Errors
    /// Another file failed: what that was is told, and not this.
    pub fn go_on(&self) -> Result<(), Error> {
        match self.is_stopped() {
            true => Err(Error::new(Code::Unavailable, "another file failed")),
            false => Ok(()),
        }
    }

    /// Does it `once`, and again for as long as that may help. What brings something on its way counts itself anew.
    pub fn persist<T>(
        &self,
        mut once: impl FnMut(&mut Attempts) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let mut attempts = Attempts(0);
        loop {
            attempts.0 += 1;
            let (error, after) = match once(&mut attempts) {
                Ok(found) => return Ok(found),
                Err(Problem::Lasting(error)) => return Err(error),
                Err(Problem::Passing(error, after)) => (error, after),
            };
            let wait = match (after, attempts.0) {
                (Some(after), _) => after,
                // It got on since the last attempt.
                (None, 0) => Duration::ZERO,
                (None, n) => FIRST_WAIT * 2u32.pow(n.min(16) - 1),
            };
            if attempts.0 >= ATTEMPTS || wait > LONGEST_WAIT || self.is_stopped() {
                return Err(error);
            }
            if wait >= Duration::from_secs(1) {
                let seconds = wait.as_secs();
                self.watch
                    .note(&format!("{}; trying again in {seconds} s", error.message));
            }
            self.rest(wait)?;
        }
    }

    fn rest(&self, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.go_on()?;
            thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }

    /// Asks once, and follows where that leads; `from` asks for the bytes from there on. What is no success is a problem, but for
    /// 416.
    pub fn ask(&self, method: Method, url: &Url, from: u64) -> Result<Answer, Problem> {
        let mut url = url.clone();
        let mut said = Said::default();
        for _ in 0..=MAX_REDIRECTS {
            let own = self.is_own(&url);
            let response = self.send(method, &url, from, own)?;
            let status = response.status();
            if own {
                said.hear(response.headers(), status.as_u16());
            }
            let next = response.headers().get(header::LOCATION);
            let next = next.filter(|_| status.is_redirection());
            if let Some(next) = next.and_then(|next| next.to_str().ok()) {
                url = url
                    .join(next)
                    .map_err(|_| self.odd("a redirect that leads nowhere"))?;
                // Of a file elsewhere all is said by who leads there.
                if method == Method::Head && !self.is_own(&url) {
                    return Ok(Answer { said, response });
                }
                continue;
            }
            if status.is_success() || status.as_u16() == 416 {
                return Ok(Answer { said, response });
            }
            return Err(self.refused(status.as_u16(), response.headers(), own));
        }
        Err(self.odd("one redirect after the other").into())
    }

    /// What the hub says in JSON.
    pub fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Error> {
        self.persist(|_| {
            let mut answer = self.ask(Method::Get, url, 0)?;
            let mut text = Vec::new();
            let body = answer.response.body_mut().as_reader();
            body.take(MAX_REPLY)
                .read_to_end(&mut text)
                .map_err(|problem| self.cut(&problem.to_string()))?;
            serde_json::from_slice(&text).map_err(|problem| {
                self.odd(&format!("what is no list of files ({problem})"))
                    .into()
            })
        })
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    fn send(
        &self,
        method: Method,
        url: &Url,
        from: u64,
        own: bool,
    ) -> Result<Response<Body>, Problem> {
        let mut request = match method {
            Method::Head => self.agent.head(url.as_str()),
            Method::Get => self.agent.get(url.as_str()),
        };
        // Sizes are those of the files.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.site.token.as_ref().filter(|_| own) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            if self.name.hub == Hub::ModelScope {
                request = request.header(header::COOKIE, format!("m_session_id={token}"));
            }
        }
        request.call().map_err(|problem| {
            let host = url.host_str().unwrap_or_default();
            let why = match problem {
                ureq::Error::HostNotFound => "there is no such host".into(),
                ureq::Error::Timeout(_) => "it does not answer".into(),
                other => other.to_string(),
            };
            let advice = match self.name.hub {
                Hub::HuggingFace => {
                    "check the network (HTTPS_PROXY, HF_ENDPOINT for a mirror), or fetch the model from ModelScope by its name \
                     there, as in ms:ZhipuAI/glm-4v-9b"
                }
                Hub::ModelScope => "check the network (HTTPS_PROXY, MODELSCOPE_ENDPOINT)",
            };
            let message = format!("{host} can't be reached ({why}): {advice}");
            Problem::Passing(Error::new(Code::Unreachable, message), None)
        })
    }

    /// A connection that ended before what it should bring.
    pub fn cut(&self, why: &str) -> Problem {
        let message = format!(
            "the connection to {} was cut again and again ({why}): run this again, it goes on where it stopped",
            self.site.endpoint
        );
        Problem::Passing(Error::new(Code::Unreachable, message), None)
    }

    /// An answer that a hub does not give.
    pub fn odd(&self, what: &str) -> Error {
        let message = format!(
            "{} answers with {what}: check that it is a hub, or that no proxy answers in its place",
            self.site.endpoint
        );
        Error::new(Code::Unavailable, message)
    }

    fn refused(&self, status: u16, headers: &HeaderMap, own: bool) -> Problem {
        let (name, hub) = (self.name, &self.site.endpoint);
        let said = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let lasting = |code, message| Problem::Lasting(Error::new(code, message));
        match status {
            // An address that was signed for a while: the hub gives another.
            401 | 403 if !own => self.passing(
                format!("the address that {hub} gave is not valid any more ({status})"),
                None,
            ),
            401 | 403 if said("x-error-code") == Some("GatedRepo") => {
                let page = format!("{hub}/{}", name.repository());
                lasting(
                    Code::Gated,
                    match self.site.token {
                        None => format!(
                            "{name} is gated: accept its terms at {page}, then set HF_TOKEN, or run `hf auth login`"
                        ),
                        Some(_) => format!(
                            "{name} is gated, and this token may not read it: accept its terms at {page} with the account that the token is of"
                        ),
                    },
                )
            }
            401 | 403 => lasting(
                Code::Denied,
                match (name.hub, &self.site.token) {
                    (Hub::HuggingFace, None) => format!(
                        "{hub} gives {name} only to people it knows ({status}): check the name, or, if the model is private, set HF_TOKEN"
                    ),
                    (Hub::ModelScope, None) => format!(
                        "{hub} gives {name} only to people it knows ({status}): check the name, or, if the model is private, set MODELSCOPE_API_TOKEN"
                    ),
                    (_, Some(_)) => format!(
                        "{hub} does not give {name} to this token ({status}): check the name and the token"
                    ),
                },
            ),
            404 | 410 => lasting(
                Code::NotFound,
                match said("x-error-code") {
                    Some("RevisionNotFound") => format!(
                        "{} has no revision {}: check the part after @",
                        name.repository(),
                        name.revision()
                    ),
                    Some("EntryNotFound") => format!(
                        "a file of {name} is gone from {hub}: run this again, and if it stays so give another revision"
                    ),
                    _ => format!("{hub} has no model {name} ({status}): check the name"),
                },
            ),
            429 => {
                let error = Error {
                    retry_after: retry_after(headers),
                    ..Error::new(
                        Code::RateLimited,
                        format!(
                            "{hub} takes no more requests from here for a while (429): try again later, or set a token, with which more are taken"
                        ),
                    )
                };
                let after = error.retry_after;
                Problem::Passing(error, after)
            }
            408 | 500.. => self.passing(
                format!("{hub} has a fault of its own ({status}): try again in a while"),
                retry_after(headers),
            ),
            _ => self.odd(&format!("status {status}")).into(),
        }
    }

    fn passing(&self, message: String, after: Option<Duration>) -> Problem {
        Problem::Passing(Error::new(Code::Unavailable, message), after)
    }
}

/// How often something was tried since it last got on.
pub(crate) struct Attempts(u32);

impl Attempts {
    /// Counts from none again, since something came.
    pub fn renew(&mut self) {
        self.0 = 0;
    }
}

impl Said {
    fn hear(&mut self, headers: &HeaderMap, status: u16) {
        let said = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let plain = (status == 200).then(|| said("content-length")).flatten();
        let etag = said("x-linked-etag").or_else(|| said("etag"));
        let size = said("x-linked-size").or(plain);
        self.commit = said("x-repo-commit").map(Into::into).or(self.commit.take());
        self.etag = etag.map(bare).or(self.etag.take());
        self.size = size.and_then(|it| it.parse().ok()).or(self.size);
    }
}

/// An ETag as a file's name has it.
pub(crate) fn bare(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').into()
}

/// When to come again: so many seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(said).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_bared() {
        assert_eq!(bare("\"abc\""), "abc");
        assert_eq!(bare("W/\"abc\""), "abc");
        assert_eq!(bare("abc"), "abc");
    }

    #[test]
    fn a_hub_says_when_to_come_again() {
        let said = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(said("7"), Some(Duration::from_secs(7)));
        assert_eq!(said("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(said("Tue, 31 Dec 2999 00:00:00 GMT") > Some(LONGEST_WAIT));
        assert_eq!(said("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
