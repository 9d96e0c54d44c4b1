//! `glimpse serve`: puts the settings, the engine, the sessions and the routes together.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::config::{AccessArgs, DecodeArgs, EngineArgs, ServeArgs};
use crate::device::Target;
use crate::engine::{self, Engine};
use crate::http::{self, Access, Ended, Proxies};
use crate::intake::decode;
use crate::session::{GuestLimits, Guests, Hub, Key, Options, Shared};
use glimpse_image as image;

/// Serves until SIGTERM or Ctrl-C, or until the device is lost. It listens at once, while the model loads.
///
/// # Errors
/// Settings that contradict each other, a checkpoint with something missing, or a device or address that can't be had.
pub fn run(settings: &ServeArgs) -> io::Result<Ended> {
    // Opened here, so that whatever is wrong with it ends the program with a sentence; loaded by the worker.
    let checkpoint =
        Checkpoint::choose(&settings.model).map_err(|problem| invalid(problem.to_string()))?;
    checkpoint
        .quantize(settings.model.quantize)
        .map_err(|problem| invalid(problem.to_string()))?;
    let (device, dtype) = (settings.model.device, settings.model.dtype);
    let quantize = settings.model.quantize;
    let targets = Target::choose_all(device, dtype, |target| checkpoint.fits(target, quantize))
        .map_err(|problem| invalid(problem.to_string()))?;
    let checkpoint = Arc::new(checkpoint);
    // Moved, so that nothing holds the folder's files once the last worker has loaded them.
    let each = move |target| {
        let checkpoint = checkpoint.clone();
        move || Ok((checkpoint, target))
    };
    let opens = targets.into_iter().map(each).collect();
    let engine = Engine::start(engine_settings(settings), opens)?;
    with_engine(settings, engine)
}

/// How pictures are decoded. More decoders than cores would only wait for each other; but two at least, so that one client
/// never has them all.
fn decode_settings(settings: &ServeArgs) -> decode::Settings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let DecodeArgs {
        decoder,
        image_process,
        decoders,
    } = &settings.engine.decode;
    decode::Settings {
        image: image::Options {
            decoder: decoder.image_decoder.into(),
            raw: false,
            max_pixels: settings.limits.image_pixels,
            max_memory: settings.limits.decode_memory.0,
        },
        in_process: image_process.is_on(),
        decoders: decoders.map_or(cores.clamp(2, 8), usize::from),
        memory: settings.limits.decode_memory.0,
        time: Duration::try_from_secs_f64(settings.limits.decode_seconds)
            .unwrap_or(Duration::from_secs(1 << 25)),
        warm_up: settings.engine.warmup.is_on(),
    }
}

fn engine_settings(settings: &ServeArgs) -> engine::Settings {
    let EngineArgs {
        eager_encode,
        prefix_cache,
        warmup,
        max_batch,
        cache_bytes,
        queue,
        ..
    } = settings.engine;
    engine::Settings {
        max_batch: max_batch.into(),
        queue: queue as usize,
        cache_bytes: cache_bytes.map(|bytes| bytes.0),
        eager_encode: eager_encode.is_on(),
        prefix_cache: prefix_cache.is_on(),
        warmup: warmup.is_on(),
        quantize: settings.model.quantize,
    }
}

/// The same with an engine that was started elsewhere.
///
/// # Errors
/// Those of [`run`].
pub fn with_engine(settings: &ServeArgs, engine: Engine) -> io::Result<Ended> {
    let limits = settings.limits.wire().map_err(invalid)?;
    let access = access(&settings.access).map_err(invalid)?;
    let guests = guests(&settings.access).map_err(invalid)?;
    let tls = match (&settings.access.tls_cert, &settings.access.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(http::tls::config(certificates, key).map_err(invalid)?)
        }
        _ => None,
    };
    if !settings.listen.ip().is_loopback() && !guests.needs_key() {
        tracing::warn!(
            "ANYONE who can reach {} can use this server: give --api-key-file, or listen on 127.0.0.1",
            settings.listen
        );
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let options = Options {
        share_pictures: settings.engine.share_pictures.is_on(),
        decode: decode_settings(settings),
        upload_memory: settings.limits.upload_memory.0,
        picture_memory: settings.limits.picture_memory.0,
        max_sessions: usize::try_from(settings.access.max_connections)
            .unwrap_or(usize::MAX)
            .saturating_mul(2),
    };
    let hub = Arc::new(Hub::new(Shared::new(engine, limits, options)?));
    let options = http::Options {
        listen: settings.listen,
        threads: settings.http_threads.into(),
        drain: Duration::try_from_secs_f64(settings.drain_seconds).unwrap_or_default(),
        access,
        guests,
        tls,
    };
    actix_web::rt::System::new().block_on(async {
        http::serve(hub, options, |address| {
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

fn access(settings: &AccessArgs) -> Result<Access, String> {
    let proxies = Proxies::new(settings.trusted_proxy.clone());
    Access::new(&settings.allow_host, &settings.allow_origin, proxies)
}

fn guests(settings: &AccessArgs) -> Result<Arc<Guests>, String> {
    let limit = |n: u32| (n > 0).then_some(n);
    let by_key = GuestLimits {
        connections: None,
        connects_per_minute: limit(settings.connects_per_minute),
        asks_per_minute: limit(settings.asks_per_minute),
    };
    let by_address = GuestLimits {
        connections: limit(settings.connections_per_address),
        ..by_key
    };
    let keys = match &settings.api_key_file {
        None => Vec::new(),
        Some(path) => {
            let file = std::fs::read_to_string(path).map_err(|problem| {
                format!(
                    "--api-key-file {} can't be read ({problem})",
                    path.display()
                )
            })?;
            Key::read_all(&file, by_key)?
        }
    };
    let most = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
    Ok(Guests::new(
        keys,
        by_address,
        most,
        settings.limit_loopback.is_on(),
    ))
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}
