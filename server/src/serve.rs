//! `glimpse serve`: puts the settings, the engine, the sessions and the routes together.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::config::{EngineArgs, ImageDecoder, ServeArgs};
use crate::device::Target;
use crate::engine::{self, Engine};
use crate::http::{self, Access};
use crate::image;
use crate::session::{Hub, Options, Shared};

/// Serves until SIGTERM or Ctrl-C. It listens at once, while the model loads.
///
/// # Errors
/// Settings that contradict each other, or an address that can't be had.
pub fn run(settings: &ServeArgs) -> io::Result<()> {
    let model = settings.model.clone();
    let engine = Engine::start(engine_settings(settings), move || {
        let checkpoint = Checkpoint::choose(&model)?;
        Ok((checkpoint, Target::choose(model.device, model.dtype)?))
    })?;
    with_engine(settings, engine)
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
pub fn with_engine(settings: &ServeArgs, engine: Engine) -> io::Result<()> {
    let limits = settings.limits.wire().map_err(invalid)?;
    let access =
        Access::new(&settings.access.allow_host, &settings.access.allow_origin).map_err(invalid)?;
    let options = Options {
        share_pictures: settings.engine.share_pictures.is_on(),
        image: image_options(settings),
        decode_threads: std::thread::available_parallelism().map_or(1, usize::from),
        decode_memory: settings.limits.decode_memory.0,
        upload_memory: settings.limits.upload_memory.0,
    };
    let hub = Arc::new(Hub::new(Shared::new(engine, limits, options)?));
    let options = http::Options {
        listen: settings.listen,
        threads: settings.http_threads.into(),
        drain: Duration::try_from_secs_f64(settings.drain_seconds).unwrap_or_default(),
        access,
    };
    actix_web::rt::System::new().block_on(async {
        http::serve(hub, options, |address| {
            println!("listening on http://{address}");
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

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

fn image_options(settings: &ServeArgs) -> image::Options {
    image::Options {
        decoder: match settings.engine.image_decoder {
            ImageDecoder::Turbojpeg => image::Decoder::TurboJpeg,
            ImageDecoder::Portable => image::Decoder::Portable,
        },
        raw: false,
        max_pixels: settings.limits.image_pixels,
    }
}
