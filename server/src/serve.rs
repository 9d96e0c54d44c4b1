//! `glimpse serve`: puts the settings, the engine, the sessions and the routes together.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ImageDecoder, ServeArgs};
use crate::engine::Engine;
use crate::http::{self, Access};
use crate::image;
use crate::session::{Hub, Options, Shared};

/// Serves until SIGTERM or Ctrl-C. It listens at once; `engine` may still be loading.
///
/// # Errors
/// Settings that contradict each other, or an address that can't be had.
pub fn run(settings: &ServeArgs, engine: Engine) -> io::Result<()> {
    let limits = settings.limits.wire().map_err(invalid)?;
    let access = Access::new(&settings.access.allow_host, &settings.access.allow_origin)
        .map_err(invalid)?;
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
                format!("can't serve at {}: {problem}; choose another with --listen", settings.listen),
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
