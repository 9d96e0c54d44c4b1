//! A worker's thread: loads the model, warms up, serves until it ends.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use api::{Loaded, State};
use model::LoadError;
use model::checkpoint::Checkpoint;
use model::device::{Target, host_memory, tell_memory};
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
    let host_pages = host_pages(&settings, shape, page_bytes, pages);
    tracing::info!(
        pages,
        bytes = pages as u64 * page_bytes,
        whole_conversations = pages / conversation_pages(shape),
        host_pages,
        "memory for the KV cache"
    );
    let on_device = |e: candle_core::Error| {
        LoadError(format!(
            "the KV cache of {pages} pages does not fit on the device ({e}): lower --cache-bytes or --max-batch"
        ))
    };
    let opening = language.opening("").map_err(|e| LoadError(e.to_string()))?;
    let mut device = OnDevice::new(model, opening, pages, host_pages).map_err(on_device)?;
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
        (pages, host_pages),
        admission,
        status.reports().clone(),
        status.number(),
    ))
}

/// What a conversation to the model's end takes.
fn conversation_pages(shape: &Shape) -> usize {
    shape.entries.div_ceil(PAGE) + 1
}

/// What so many of the longest conversations take beside a picture being looked at.
fn pages_for(conversations: usize, shape: &Shape) -> usize {
    conversations * conversation_pages(shape) + shape.picture_entries.div_ceil(PAGE) + 2
}

/// Pages of the cache: at least enough for one conversation to the model's end beside a picture, so that the oldest answer never
/// lacks any. By default a quarter of the free memory, but enough for two conversations where there is room for them, and no more
/// than all slots can take, or two of them four times over.
fn cache_pages(settings: &Settings, shape: &Shape, page_bytes: u64, free: u64) -> usize {
    let least = pages_for(1, shape);
    let whole = |bytes: u64| usize::try_from(bytes / page_bytes).unwrap_or(usize::MAX);
    match settings.cache_bytes {
        Some(bytes) => {
            if whole(bytes) < least {
                tracing::warn!(
                    asked = bytes,
                    taken = least as u64 * page_bytes,
                    "--cache-bytes is too little for a conversation beside a picture: the least is taken"
                );
            }
            whole(bytes).max(least)
        }
        None => {
            let two = pages_for(settings.max_batch.min(2), shape);
            let most = pages_for(settings.max_batch, shape).max(4 * two);
            whole(free / 4).max(two.min(whole(free))).clamp(least, most)
        }
    }
}

/// Pages of the host's memory, for answers that make room for older ones: none where the cache holds what all slots can take, and
/// no more than an eighth of what is free there.
fn host_pages(settings: &Settings, shape: &Shape, page_bytes: u64, pages: usize) -> usize {
    let beyond = pages_for(settings.max_batch, shape).saturating_sub(pages);
    let free = host_memory().unwrap_or(0) / 8 / page_bytes;
    beyond.min(usize::try_from(free).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published model's: 2.6 MB a page, 154 pages a conversation, 26 a picture.
    #[test]
    fn the_cache_holds_a_conversation_at_least_and_what_all_slots_take_where_there_is_room() {
        let shape = Shape {
            picture_side: 1120,
            pictures: 1,
            picture_entries: 1602,
            positions: 8192,
            entries: 9791,
        };
        let page = 40 * 2 * 2 * 64 * 128 * 2;
        let (gb, one, two) = (1 << 30, pages_for(1, &shape), pages_for(2, &shape));
        assert_eq!((one, two), (182, 336));
        let pages = |max_batch, cache_bytes, free: u64| {
            let settings = Settings {
                max_batch,
                cache_bytes,
                ..Settings::default()
            };
            let pages = cache_pages(&settings, &shape, page, free);
            (pages, host_pages(&settings, &shape, page, pages))
        };
        assert_eq!(pages(16, None, 50 * gb), (pages_for(16, &shape), 0));
        assert_eq!(pages(2, None, 50 * gb), (4 * two, 0));
        assert_eq!(pages(16, None, 8 * gb).0, (2 * gb / page) as usize);
        // Where a quarter is too little, two; where there is no room for two, what there is.
        assert_eq!(pages(16, None, 2 * gb).0, two);
        assert_eq!(pages(16, None, 600 << 20).0, (600 << 20) / page as usize);
        assert_eq!(pages(1, Some(0), gb), (one, 0));
        // What is beyond goes to the host.
        let (pages, host) = pages(16, Some(0), gb);
        assert!(pages == one && host > 0 && host <= 15 * 154);
    }
}
