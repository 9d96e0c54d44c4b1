//! A worker's thread: loads the model, warms up, serves until it ends.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use api::{Loaded, State};
use model::LoadError;
use model::checkpoint::Checkpoint;
use model::device::{Target, tell_memory};
use model::kernels::PAGE;
use model::network::Shape;

use crate::LanguageSlot;
use crate::admission::Admission;
use crate::command::Command;
use crate::executor::{Executor, Layer, OnDevice};
use crate::guard;
use crate::settings::Settings;
use crate::worker::Worker;
use crate::workers::StatusPublisher;

/// What a worker is made with.
pub struct Preparation<'a> {
    pub settings: Settings,
    pub admission: Arc<Admission>,
    /// The model's language, once the model is known: for whoever tokenizes questions.
    pub language: &'a LanguageSlot,
    pub status: &'a StatusPublisher,
}

/// A worker's thread, from loading on.
pub fn work(
    preparation: Preparation,
    open: impl FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError>,
    wrap: impl Layer,
    inbox: &mpsc::Receiver<Command>,
) {
    let status = preparation.status;
    let failed = |error: String| {
        tracing::error!(%error, "the model could not be served");
        status.send_modify(|s| {
            s.state = State::Failed;
            s.error = Some(error);
        });
    };
    let mut worker = match guard::catch(|| prepare(preparation, open, wrap)) {
        Ok(Ok(worker)) => worker,
        Ok(Err(error)) => return failed(error.0),
        Err(panic) => return failed(format!("loading the model panicked ({panic})")),
    };
    status.send_modify(|s| {
        s.state = State::Ready;
        s.loaded = None;
    });
    if let Err(lost) = worker.run(inbox, status) {
        tracing::error!(error = %lost, "the device is lost");
        // First, so that nothing new comes while the rest is refused.
        status.send_modify(|s| {
            s.state = State::Failed;
            s.error = Some(lost);
            s.lost = true;
        });
        worker.refuse_all();
    }
}

fn prepare<O, W>(
    preparation: Preparation,
    open: O,
    wrap: W,
) -> Result<Worker<impl Executor + use<O, W>>, LoadError>
where
    O: FnOnce() -> Result<(Arc<Checkpoint>, Target), LoadError>,
    W: Layer,
{
    let Preparation {
        settings,
        admission,
        language,
        status,
    } = preparation;
    let (checkpoint, target) = open()?;
    let language = language.get_or_init(|| Arc::new(checkpoint.language()));
    let shape = language.shape();
    let described = api::Model {
        name: checkpoint.name.clone(),
        demo: checkpoint.demo,
        image_size: shape.picture_side,
        max_positions: shape.positions as u32,
        device: target.device_name(),
        dtype: target.dtype_name(),
        quantization: settings.quantize.to_string(),
    };
    status.send_modify(|s| {
        s.model = described;
        s.sampling = checkpoint.sampling.clone();
    });
    let since = Instant::now();
    let model = checkpoint.load(&target, settings.quantize, &mut |done, total| {
        status.send_modify(|s| s.loaded = Some(Loaded { done, total }));
    })?;
    tracing::info!(
        bytes = model.weight_bytes(),
        device = target.device_name(),
        "loaded {} in {:.1} s",
        checkpoint.name,
        since.elapsed().as_secs_f64()
    );
    tell_memory(&target.device, "with the weights");
    // Of all the weights, so not before all have come.
    let fingerprint = checkpoint.fingerprint(&target, settings.quantize);
    status.health(|health| health.model = fingerprint);

    let page_bytes = model.page_bytes() as u64;
    let pages = cache_pages(&settings, shape, page_bytes, target.free_memory());
    tracing::info!(
        pages,
        bytes = pages as u64 * page_bytes,
        whole_conversations = pages / conversation_pages(shape),
        "memory for the KV cache"
    );
    let on_device = |e: candle_core::Error| {
        LoadError(format!(
            "the KV cache of {pages} pages does not fit on the device ({e}): lower --cache-bytes or --max-batch"
        ))
    };
    let opening = language.opening("").map_err(|e| LoadError(e.to_string()))?;
    let mut device = OnDevice::new(model, opening, pages).map_err(on_device)?;
    if settings.warmup {
        status.send_modify(|s| {
            s.state = State::Warming;
            s.loaded = None;
        });
        device
            .warm_up(settings.max_batch)
            .map_err(|e| LoadError(format!("the model does not run on this device ({e})")))?;
    }
    device.settle().map_err(on_device)?;
    Ok(Worker::new(
        wrap.wrap(device),
        &settings,
        pages,
        admission,
        status.reports().clone(),
        status.number(),
    ))
}

/// What a conversation to the model's end takes.
fn conversation_pages(shape: &Shape) -> usize {
    shape.entries.div_ceil(PAGE) + 1
}

/// Pages of the cache: enough for every slot to run a conversation to the model's end beside a picture being looked at; by default
/// four times that, where it takes no more than a quarter of the free memory.
fn cache_pages(settings: &Settings, shape: &Shape, page_bytes: u64, free: u64) -> usize {
    let least =
        settings.max_batch * conversation_pages(shape) + shape.picture_entries.div_ceil(PAGE) + 2;
    match settings.cache_bytes {
        Some(bytes) => {
            let pages = usize::try_from(bytes / page_bytes).unwrap_or(usize::MAX);
            if pages < least {
                tracing::warn!(
                    asked = bytes,
                    taken = least as u64 * page_bytes,
                    "--cache-bytes is too little for --max-batch conversations beside a picture: the least is taken"
                );
            }
            pages.max(least)
        }
        None => ((free / 4 / page_bytes) as usize).clamp(least, 4 * least),
    }
}
