//! The server that is measured: started for it, or one that runs already.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use client::ms;

/// Where a server is, and its process if it is ours, which ends with this.
pub struct Server {
    pub url: String,
    child: Option<Child>,
    /// Kept open: who writes to a closed pipe dies of it.
    stdout: Option<BufReader<ChildStdout>>,
    /// When the server's process was started.
    pub started: Instant,
    /// Milliseconds from the start until the process listened.
    pub listening_ms: f64,
}

impl Server {
    /// One that runs already.
    pub fn at(url: &str) -> Self {
        Server {
            url: url.to_owned(),
            child: None,
            stdout: None,
            started: Instant::now(),
            listening_ms: 0.0,
        }
    }

    /// Starts a `glimpse` program as a server at a free port of this machine.
    ///
    /// # Errors
    /// If it does not come up; its log says why.
    pub fn start(program: &Path, flags: &[OsString]) -> Result<Self, String> {
        let started = Instant::now();
        let mut child = Command::new(program)
            .args(["--log", "error", "serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the server can't be started: {e}"))?;
        let mut stdout = child.stdout.take().map(BufReader::new);
        let mut line = String::new();
        let read = stdout.as_mut().map(|lines| lines.read_line(&mut line));
        let listening_ms = ms(started, Instant::now());
        let mut server = Server {
            url: String::new(),
            child: Some(child),
            stdout,
            started,
            listening_ms,
        };
        match (read, line.trim().strip_prefix("listening on http://")) {
            (Some(Ok(_)), Some(address)) => {
                server.url = format!("ws://{address}/ws");
                Ok(server)
            }
            _ => Err("the server did not start: see above".into()),
        }
    }

    /// What `/metrics` says; `None` if there is nothing to be had.
    pub async fn metrics(&self) -> Option<String> {
        let rest = self.url.strip_prefix("ws://")?;
        let address = format!("http://{}/metrics", rest.split('/').next()?);
        let get = move || {
            let patience = Some(Duration::from_secs(5));
            let config = ureq::Agent::config_builder().timeout_global(patience);
            let agent = ureq::Agent::from(config.build());
            let mut answer = agent.get(address).call().ok()?;
            answer.body_mut().read_to_string().ok()
        };
        tokio::task::spawn_blocking(get).await.ok()?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has nothing to lose, and nobody else is connected to it.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.stdout = None;
    }
}

/// A metric's value in the text of `/metrics`, its labels included in the name.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}
