//! `glimpse serve`: puts the settings, the engine, the sessions and the routes together.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::config::{
    AccessArgs, ApiArgs, DecodeArgs, DoorArgs, EngineArgs, LimitArgs, ModelArgs, PictureArgs,
    ServeArgs, SourceArgs,
};
use crate::pull::Begun;
use crate::{loading, page};
use api::{Compute, Log, Report, Status, Tokens};
use engine::{Engine, Reports};
use gateway::access::{Access, GuestLimits, Guests, KeyFile, Proxies};
#[cfg(feature = "mcp")]
use gateway::doors::mcp::Folder;
use gateway::doors::{self, Ended, Hosts, Page, Tls, openai};
use gateway::intake::decode;
use gateway::session::{Hub, Options, Shared};
use glimpse_image as image;
use model::Quantize;
use model::device::Target;
use tokio::sync::watch;

/// Serves until SIGTERM or Ctrl-C, or until the device is lost. It listens at once, while the model loads.
///
/// # Errors
/// Settings that contradict each other, a checkpoint with something missing, or a device or address that can't be had.
pub fn run(settings: &ServeArgs) -> io::Result<Ended> {
    let (told, reports) = mpsc::channel();
    let engine = start_engine(&settings.model, &settings.engine, told)?;
    let (status, engine) = (engine.status(), Arc::new(engine));
    let computing = Computing {
        engine: engine.clone(),
        log: None,
        tokens: engine,
        status,
        reports,
    };
    let warm_up = settings.engine.warmup.is_on();
    with_engine(&settings.doors, &settings.pictures, warm_up, computing)
}

/// Whoever computes, and what that tells.
pub struct Computing {
    pub engine: Arc<dyn Compute>,
    /// Who keeps sessions outside of this process, if anybody does.
    pub log: Option<Arc<dyn Log>>,
    pub tokens: Arc<dyn Tokens>,
    pub status: watch::Receiver<Status>,
    pub reports: mpsc::Receiver<Report>,
}

/// Starts what computes. What it has to tell goes to `reports`.
///
/// # Errors
/// A checkpoint with something missing, or a device that can't be had.
pub fn start_engine(
    model: &ModelArgs,
    settings: &EngineArgs,
    reports: impl Into<Reports>,
) -> io::Result<Engine> {
    // Opened here, so that whatever is wrong with it ends the program with a sentence; loaded by the worker.
    let begun = (model.begin()).map_err(|problem| invalid(problem.to_string()))?;
    let Begun {
        checkpoint,
        download,
    } = begun;
    let mut targets = Target::choose_all(model.device, model.dtype, |target| {
        checkpoint.quantize(model.quantize, target).map(drop)
    })
    .map_err(|problem| invalid(problem.to_string()))?;
    let quantize = checkpoint
        .quantize_all(model.quantize, &mut targets)
        .map_err(|problem| invalid(problem.to_string()))?;
    let checkpoint = Arc::new(checkpoint);
    // Moved, so that nothing holds the folder's files once the last worker has loaded them.
    let each = move |target| {
        let checkpoint = checkpoint.clone();
        move || Ok((checkpoint, target))
    };
    let opens = targets.into_iter().map(each).collect();
    let engine = Engine::start(engine_settings(settings, quantize), opens, reports)?;
    if let Some(download) = download {
        download.tell(&engine);
    }
    Ok(engine)
}

/// How pictures are decoded. More decoders than cores would only wait for each other; but two at least, so that one client
/// never has them all.
fn decode_settings(pictures: &PictureArgs, warm_up: bool, limits: &LimitArgs) -> decode::Settings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let DecodeArgs {
        decoder,
        image_process,
        decoders,
    } = &pictures.decode;
    decode::Settings {
        image: image::Options {
            decoder: decoder.image_decoder.into(),
            raw: false,
            region: None,
            max_pixels: limits.image_pixels,
            max_memory: decode::each_of(limits.decode_memory.0),
        },
        in_process: image_process.is_on(),
        decoders: decoders.map_or(cores.clamp(2, 8), usize::from),
        memory: limits.decode_memory.0,
        time: Duration::try_from_secs_f64(limits.decode_seconds)
            .unwrap_or(Duration::from_secs(1 << 25)),
        warm_up,
    }
}

fn engine_settings(settings: &EngineArgs, quantize: Quantize) -> engine::Settings {
    let EngineArgs {
        eager_encode,
        prefix_cache,
        warmup,
        max_batch,
        cache_bytes,
        queue,
        ..
    } = *settings;
    engine::Settings {
        max_batch: max_batch.into(),
        queue: queue as usize,
        cache_bytes: cache_bytes.map(|bytes| bytes.0),
        eager_encode: eager_encode.is_on(),
        prefix_cache: prefix_cache.is_on(),
        warmup: warmup.is_on(),
        quantize,
    }
}

/// How sessions behave, of which there may be so many.
pub fn session_options(
    pictures: &PictureArgs,
    warm_up: bool,
    limits: &LimitArgs,
    max_sessions: usize,
) -> Options {
    Options {
        share_pictures: pictures.share_pictures.is_on(),
        decode: decode_settings(pictures, warm_up, limits),
        upload_memory: limits.upload_memory.0,
        picture_memory: limits.picture_memory.0,
        session_memory: limits.session_memory.0,
        message_memory: limits.message_memory.0,
        max_sessions,
    }
}

/// Serves ([`run`]) with whoever computes; `warm_up`: the decoders before their first picture.
///
/// # Errors
/// Those of [`run`].
pub fn with_engine(
    settings: &DoorArgs,
    pictures: &PictureArgs,
    warm_up: bool,
    computing: Computing,
) -> io::Result<Ended> {
    let Computing {
        engine,
        log,
        tokens,
        status,
        reports,
    } = computing;
    let limits = settings.limits.wire().map_err(invalid)?;
    let patience = Duration::try_from_secs_f64(limits.stall_seconds).unwrap_or_default();
    let access = access(&settings.access).map_err(invalid)?;
    let keys = key_file(&settings.access);
    let guests = guests(&settings.access, keys.as_ref()).map_err(invalid)?;
    let tls = match (&settings.access.tls_cert, &settings.access.tls_key) {
        (Some(certificates), Some(key)) => Some(Tls::open(certificates, key).map_err(invalid)?),
        _ => None,
    };
    warn(settings, &guests);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let max_sessions = usize::try_from(settings.access.max_connections)
        .unwrap_or(usize::MAX)
        .saturating_mul(2);
    let options = session_options(pictures, warm_up, &settings.limits, max_sessions);
    let hub = Arc::new(Hub::new(Shared::new(
        engine, log, status, reports, limits, options,
    )?));
    let options = doors::Options {
        listen: settings.listen,
        threads: settings.http_threads.into(),
        drain: Duration::try_from_secs_f64(settings.drain_seconds).unwrap_or_default(),
        patience,
        access,
        guests,
        keys,
        tls,
        page: Page::new(page::files())?,
        api: api(&settings.api),
        tokens,
        fetch_hosts: fetch_hosts(&settings.sources).map_err(invalid)?,
        #[cfg(feature = "mcp")]
        root: root(&settings.sources).map_err(invalid)?,
    };
    actix_web::rt::System::new().block_on(async {
        actix_web::rt::spawn(loading::show(hub.shared.engine_status()));
        doors::serve(hub, options, |address| {
            // Nobody may be there to read it, which is no reason to panic.
            let _ = writeln!(io::stdout(), "listening on {scheme}://{address}");
        })
        .await
        .map_err(|problem| {
            io::Error::new(
                problem.kind(),
                format!(
                    "can't serve at {}: {problem}; choose another with --listen",
                    settings.listen
                ),
            )
        })
    })
}

fn api(settings: &ApiArgs) -> openai::Options {
    openai::Options {
        served_names: settings.served_model_name.clone(),
        earlier_pictures: settings.earlier_pictures.into(),
    }
}

/// Where pictures may be fetched from.
///
/// # Errors
/// A sentence about what is no host.
pub fn fetch_hosts(settings: &SourceArgs) -> Result<Hosts, String> {
    Hosts::new(&settings.fetch_images)
}

/// The folder whose pictures may be named by their paths.
///
/// # Errors
/// A sentence about one that can't be opened.
#[cfg(feature = "mcp")]
pub fn root(settings: &SourceArgs) -> Result<Option<Folder>, String> {
    settings.root.as_deref().map(Folder::open).transpose()
}

fn access(settings: &AccessArgs) -> Result<Access, String> {
    let proxies = Proxies::new(settings.trusted_proxy.clone());
    Access::new(&settings.allow_host, &settings.allow_origin, proxies)
}

fn limit(n: u32) -> Option<u32> {
    (n > 0).then_some(n)
}

/// What limits a key that brings no limits of its own.
fn by_key(settings: &AccessArgs) -> GuestLimits {
    GuestLimits {
        connections: None,
        connects_per_minute: limit(settings.connects_per_minute),
        asks_per_minute: limit(settings.asks_per_minute),
    }
}

fn key_file(settings: &AccessArgs) -> Option<KeyFile> {
    settings.api_key_file.as_ref().map(|path| KeyFile {
        path: path.clone(),
        defaults: by_key(settings),
    })
}

fn guests(settings: &AccessArgs, keys: Option<&KeyFile>) -> Result<Arc<Guests>, String> {
    let by_address = GuestLimits {
        connections: limit(settings.connections_per_address),
        ..by_key(settings)
    };
    let most = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
    Ok(Guests::new(
        keys.map(KeyFile::read).transpose()?.unwrap_or_default(),
        by_address,
        open_files(most),
        settings.limit_loopback.is_on(),
    ))
}

/// Connections that this process may have open, at most so many: its limit of open files is raised as far as it may be.
fn open_files(most: usize) -> usize {
    /// For the model's files, the log, and what is told that there is no room.
    const OTHERS: u64 = 256;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls read or write this one struct.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return most;
        }
        let soft = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            limit.rlim_cur = soft;
        }
    }
    let room = usize::try_from(limit.rlim_cur.saturating_sub(OTHERS)).unwrap_or(usize::MAX);
    if room < most {
        tracing::warn!(
            "--max-connections is {most}, but the limit of open files leaves {room}: raise that (ulimit -n, LimitNOFILE=)"
        );
    }
    most.min(room.max(1))
}

/// Says what whoever runs the server should know about who may in.
fn warn(settings: &DoorArgs, guests: &Guests) {
    let access = &settings.access;
    let local = settings.listen.ip().is_loopback();
    if !local && !guests.needs_key() {
        tracing::warn!(
            "ANYONE who can reach {} can use this server: give --api-key-file, or listen on 127.0.0.1",
            settings.listen
        );
    }
    let for_others =
        guests.needs_key() || !access.allow_host.is_empty() || !access.allow_origin.is_empty();
    if local && for_others && access.trusted_proxy.is_empty() && !access.limit_loopback.is_on() {
        tracing::warn!(
            "connections from this machine have no limits. If a proxy on it passes others' requests on, start with --trusted-proxy {}, or all of them have none",
            settings.listen.ip()
        );
    }
}

/// A setting that makes no sense.
pub fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}
