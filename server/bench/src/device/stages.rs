//! How long the device takes for each stage of the model, beside what it must take at least and what another program took.

use std::fs;
use std::path::Path;
use std::time::Instant;

#[cfg(feature = "cuda")]
use api::SamplingParams;
use candle_core::{DType, Device, Tensor};

use glimpse_image::Pixels;
use model::LoadError;
use model::Quantize;
use model::checkpoint::Checkpoint;
use model::device::{Target, device_memory};
use model::glm4v::{Config, Model, Part, inventory};
use model::kernels::{self, Arena, PAGE, Plan, Rotary, Span, Then};
#[cfg(feature = "cuda")]
use model::scores::{Chosen, Scores, Wanted};
#[cfg(feature = "cuda")]
use model::text::Sampler;
use model::weights::{format_of, row_bytes};

/// Each figure is the median of so many, after some to warm up.
const ROUNDS: usize = 20;
const WARM_UPS: usize = 3;
/// The prompt of a picture with its first question, and a later question.
const PROMPT: usize = 1620;
const QUESTION: usize = 20;
/// Decode steps on a card: of so many conversations, with so many cache entries each: those of a first answer about a picture, and
/// all that the published model's conversations can have.
#[cfg(feature = "cuda")]
const BATCHES: [usize; 5] = [1, 2, 4, 8, 16];
#[cfg(feature = "cuda")]
const ENTRIES: [usize; 2] = [1760, 9791];

/// What one figure is held against.
struct Row {
    what: String,
    ms: f64,
    /// As the other program names it.
    peer: &'static str,
    floor: Option<f64>,
}

/// What the other program found: its lines end in figures.
#[derive(Default)]
pub struct Peer(Vec<(String, f64)>);

impl Peer {
    /// Reads what it wrote.
    ///
    /// # Errors
    /// A sentence, if that can't be read.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|e| format!("--peer {}: {e}", path.display()))?;
        Ok(Peer::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let figure = |line: &str| {
            let (what, figure) = line.trim().rsplit_once(' ')?;
            Some((what.to_string(), figure.parse().ok()?))
        };
        Peer(text.lines().filter_map(figure).collect())
    }

    fn of(&self, what: &str) -> Option<f64> {
        self.0.iter().find(|(w, _)| w == what).map(|(_, ms)| *ms)
    }
}

/// What the device can do at most, as the other program measured it.
struct Rates {
    flops: f64,
    bytes: f64,
}

/// Measures and prints the tables.
///
/// # Errors
/// A sentence, if the device can't hold or run the model.
pub fn run(
    checkpoint: &Checkpoint,
    target: &Target,
    quantize: Quantize,
    peer: &Peer,
) -> Result<(), String> {
    let started = Instant::now();
    let model = checkpoint
        .load(target, quantize, &mut |_, _| {})
        .map_err(|e| e.to_string())?;
    let loaded = started.elapsed().as_secs_f64();
    println!(
        "{} on {}, {}, weights as {quantize}: loaded in {loaded:.1} s",
        checkpoint.name,
        target.device_name(),
        target.dtype_name(),
    );
    told_memory("with the weights", &target.device);
    let stages = stages(&model, quantize, &rates(peer));
    let rows = stages.map_err(|e| format!("the model can't be run: {e}"))?;
    table(&rows, peer);
    told_memory("after all stages", &target.device);
    let parts = parts(&model, target).map_err(|e| format!("the parts can't be run: {e}"))?;
    table(&parts, peer);
    Ok(())
}

fn rates(peer: &Peer) -> Option<Rates> {
    Some(Rates {
        flops: peer.of("gemm TFLOP/s")? * 1e12,
        bytes: peer.of("copy TB/s")? * 1e12,
    })
}

fn told_memory(when: &str, device: &Device) {
    if let Some((free, size)) = device_memory(device) {
        println!("memory {when}: {:.2} GB", (size - free) as f64 / 1e9);
    }
}

fn table(rows: &[Row], peer: &Peer) {
    println!("\n| what | ms | peer | floor |\n|---|---|---|---|");
    for row in rows {
        let or_dash = |ms: Option<f64>| ms.map_or("–".into(), |ms| format!("{ms:.3}"));
        println!(
            "| {} | {:.3} | {} | {} |",
            row.what,
            row.ms,
            or_dash(peer.of(row.peer)),
            or_dash(row.floor)
        );
    }
    println!();
}

/// The median time of `f` in ms, as many times in a row as `times` says in each measurement.
fn timed(
    device: &Device,
    times: usize,
    mut f: impl FnMut() -> candle_core::Result<()>,
) -> candle_core::Result<f64> {
    let mut took = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UPS + ROUNDS {
        device.synchronize()?;
        let started = Instant::now();
        for _ in 0..times {
            f()?;
        }
        device.synchronize()?;
        if round >= WARM_UPS {
            took.push(started.elapsed().as_secs_f64() * 1e3 / times as f64);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took[ROUNDS / 2])
}

/// Bytes of what a decode step reads: all of the decoder but the embedding table.
fn step_bytes(config: &Config, quantize: Quantize) -> Result<f64, LoadError> {
    let specs = inventory(config)?.specs.into_iter();
    let is_read =
        |name: &str| Part::of(name) == Part::DecoderLayers || name.ends_with("output_layer.weight");
    let read = specs.filter(|spec| is_read(&spec.name));
    let bytes = read.map(|t| match (format_of(&t, quantize), &t.shape[..]) {
        (Some(format), [rows, row]) => (rows * row_bytes(format, *row)) as f64,
        _ => t.elements() as f64 * 2.0,
    });
    Ok(bytes.sum())
}

/// Operations of the tower and the adapter for a picture.
fn vision_flops(c: &Config) -> f64 {
    let v = &c.vision_config;
    let (n, w, m) = (v.positions(), v.hidden_size, v.intermediate_size);
    let layer = 2 * n * (4 * w * w + 2 * w * m) + 4 * n * n * w;
    let (h, f) = (c.hidden_size, c.ffn_hidden_size);
    let adapter = 2 * v.vectors() * (4 * w * h + h * h + 3 * h * f);
    (v.num_hidden_layers * layer + adapter) as f64
}

/// Operations of the decoder's layers for `rows` new entries behind `cached`.
fn prefill_flops(c: &Config, rows: usize, cached: usize) -> f64 {
    let (h, f) = (c.hidden_size, c.ffn_hidden_size);
    let heads = c.num_attention_heads * c.kv_channels;
    let products = 2 * rows * (c.qkv_size() * h + heads * h + 3 * h * f);
    let seen = rows * cached + rows * rows / 2;
    (c.num_layers * (products + 4 * seen * heads)) as f64
}

fn stages(
    model: &Model,
    quantize: Quantize,
    rates: &Option<Rates>,
) -> candle_core::Result<Vec<Row>> {
    let (c, device) = (&model.config, model.device());
    let (hidden, dtype) = (c.hidden_size, model.dtype());
    let bytes = step_bytes(c, quantize).map_err(candle_core::Error::msg)?;
    let floor = |flops: f64, bytes: f64| {
        let rates = rates.as_ref()?;
        Some((flops / rates.flops).max(bytes / rates.bytes) * 1e3)
    };
    let mut rows = Vec::new();
    let mut add = |what: String, peer, floor, ms| {
        rows.push(Row {
            what,
            ms,
            peer,
            floor,
        })
    };

    let size = c.vision_config.image_size;
    let pixels = Pixels::new(size as u32, vec![128; 3 * size * size]);
    let ms = timed(device, 1, || model.vision.encode(&pixels).map(drop))?;
    let least = floor(vision_flops(c), 0.0);
    add(
        "vision tower, upload of the pixels included".into(),
        "torch vision ms",
        least,
        ms,
    );

    let pages = (PROMPT + 256).div_ceil(PAGE);
    let arena = model.arena(2 * pages)?;
    let span = |slot: usize, start, len| Span {
        start,
        len,
        pages: (0..pages).map(|p| (slot * pages + p) as u32).collect(),
    };
    let input = |rows: usize| Tensor::randn(0f32, 1.0, (rows, hidden), device)?.to_dtype(dtype);
    let places =
        |start: usize, len: usize| -> Vec<u32> { (start..start + len).map(|p| p as u32).collect() };
    let x = input(PROMPT)?;
    for slot in [1, 0] {
        let all = places(0, PROMPT);
        let once = || model.forward(x.clone(), vec![span(slot, 0, PROMPT)], &all, &arena, &[]);
        let ms = timed(device, 1, || once().map(drop))?;
        if slot == 0 {
            let least = floor(prefill_flops(c, PROMPT, 0), 0.0);
            add(
                format!("prefill, {PROMPT} entries"),
                "B=1 torch prefill 1620 ms",
                least,
                ms,
            );
        }
    }
    let ids = vec![1; QUESTION];
    let new = places(PROMPT, QUESTION);
    let ms = timed(device, 1, || {
        let spans = vec![span(0, PROMPT, QUESTION)];
        model.next(&ids, spans, &new, &arena, &[0]).map(drop)
    })?;
    add(
        format!("{QUESTION} tokens on {PROMPT} cached entries, and their scores"),
        "B=1 torch prefill +20 on 1620 cached ms",
        floor(prefill_flops(c, QUESTION, PROMPT), bytes),
        ms,
    );
    for batch in [1, 2] {
        let (ids, chosen) = (vec![1; batch], (0..batch).collect::<Vec<_>>());
        let places = vec![(PROMPT + QUESTION) as u32; batch];
        let ms = timed(device, 1, || {
            let spans = (0..batch).map(|slot| span(slot, PROMPT + QUESTION, 1));
            model
                .next(&ids, spans.collect(), &places, &arena, &chosen)
                .map(drop)
        })?;
        let peer = match batch {
            1 => "B=1 torch cuda-graph decode ms",
            _ => "B=2 torch cuda-graph decode ms",
        };
        let what = format!("decode step, batch {batch}, scores on the host");
        add(what, peer, floor(0.0, bytes), ms);
    }
    drop(arena);
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let entry = (Arena::page_bytes(c.num_layers, c.multi_query_group_num, c.kv_channels, dtype)
            / PAGE) as f64;
        for step in steps(model)? {
            let StepTimes { batch, entries, .. } = step;
            let read = bytes + (batch * entries) as f64 * entry;
            let what = format!("decode step, batch {batch}, {entries} entries each");
            add(format!("{what}, alone"), "", floor(0.0, read), step.alone);
            add(format!("{what}, tokens drawn"), "", None, step.drawn);
            add(what, "", None, step.scores);
        }
        let (entries, out, back) = parking(model)?;
        add(
            format!("pages of {entries} entries to the host's memory"),
            "",
            None,
            out,
        );
        add("and back".into(), "", None, back);
    }
    Ok(rows)
}

/// What is measured of decode steps on a card.
#[cfg(feature = "cuda")]
struct StepTimes {
    batch: usize,
    entries: usize,
    /// With all scores on the host.
    scores: f64,
    /// With a token drawn of each, as the published model's settings have it.
    drawn: f64,
    /// Of which nothing is asked.
    alone: f64,
}

/// How long decode steps take on a card; those that it has room for.
#[cfg(feature = "cuda")]
fn steps(model: &Model) -> candle_core::Result<Vec<StepTimes>> {
    let params = SamplingParams {
        temperature: 0.8,
        top_p: 0.8,
        top_k: 50,
        seed: 1,
        ..SamplingParams::default()
    };
    let mut found = Vec::new();
    let sizes = ENTRIES.map(|entries| entries.min(model.config.max_entries()));
    for (i, entries) in sizes.into_iter().enumerate() {
        if sizes[..i].contains(&entries) {
            continue;
        }
        let pages = entries.div_ceil(PAGE);
        for batch in BATCHES {
            let Ok(arena) = model.arena(batch * pages) else {
                break;
            };
            let (ids, places) = (vec![1; batch], vec![entries as u32 - 1; batch]);
            let step = |wanted: Option<Wanted>| {
                let spans = (0..batch).map(|slot| Span {
                    start: entries - 1,
                    len: 1,
                    pages: (slot * pages..(slot + 1) * pages)
                        .map(|p| p as u32)
                        .collect(),
                });
                let of = |span| {
                    Some(Chosen {
                        span,
                        wanted: wanted?,
                    })
                };
                let chosen: Vec<Chosen> = (0..batch).filter_map(of).collect();
                model.next_scores(&ids, spans.collect(), &places, &arena, &chosen)
            };
            let mut samplers: Vec<Sampler> =
                (0..batch).map(|_| Sampler::new(&params, &[])).collect();
            let device = model.device();
            let alone = timed(device, 1, || step(None).map(drop))?;
            let drawn = timed(device, 1, || {
                let scores = step(Some(samplers[0].wanted()))?;
                for (sampler, scores) in samplers.iter_mut().zip(scores) {
                    let id = match scores {
                        Scores::All(mut all) => sampler.sample(&mut all),
                        Scores::Largest(largest) => sampler.choose_among(&largest),
                    };
                    id.map_err(candle_core::Error::wrap)?;
                }
                Ok(())
            })?;
            let scores = timed(device, 1, || step(Some(Wanted::All)).map(drop))?;
            found.push(StepTimes {
                batch,
                entries,
                scores,
                drawn,
                alone,
            });
        }
    }
    Ok(found)
}

/// How long a conversation's pages take to the host's memory, and back, with its entries: as many as one can have.
#[cfg(feature = "cuda")]
fn parking(model: &Model) -> candle_core::Result<(usize, f64, f64)> {
    let entries = ENTRIES[1].min(model.config.max_entries());
    let pages = entries.div_ceil(PAGE) as u32;
    let arena = model.arena(pages as usize)?;
    let mut host = arena.host(pages as usize)?;
    let device = model.device();
    let out = timed(device, 1, || {
        (0..pages).try_for_each(|page| arena.page_out(page, &mut host, page))
    })?;
    let back = timed(device, 1, || {
        (0..pages).try_for_each(|page| arena.page_in(&host, page, page))
    })?;
    Ok((entries, out, back))
}

type Work<'a> = dyn FnMut() -> candle_core::Result<()> + 'a;

/// Adds a figure, and on a card another one without the kernels that only Hopper has.
fn both_ways(
    add: &mut impl FnMut(String, &mut Work<'_>) -> candle_core::Result<()>,
    what: String,
    work: &mut Work<'_>,
) -> candle_core::Result<()> {
    add(what.clone(), work)?;
    #[cfg(feature = "cuda")]
    {
        use kernels::cuda::{Hopper, use_hopper};
        use_hopper(Hopper::Never);
        let plain = add(format!("{what}, as before Hopper"), work);
        use_hopper(Hopper::WhereFast);
        plain?;
    }
    Ok(())
}

/// What a layer of the tower and one of the decoder are made of, each kernel alone.
fn parts(model: &Model, target: &Target) -> candle_core::Result<Vec<Row>> {
    /// In a row, so that launching them is not what is measured.
    const TIMES: usize = 10;
    let (c, device) = (&model.config, &target.device);
    let dtype = match device.is_cpu() {
        true => DType::F32,
        false => target.dtype,
    };
    let random = |shape: (usize, usize)| Tensor::randn(0f32, 0.5, shape, device)?.to_dtype(dtype);
    let vector = |n: usize| random((1, n))?.reshape(n);
    let mut rows = Vec::new();
    let mut add = |what: String, f: &mut Work<'_>| {
        let ms = timed(device, TIMES, f)?;
        rows.push(Row {
            what,
            ms,
            peer: "",
            floor: None,
        });
        candle_core::Result::Ok(())
    };

    let v = &c.vision_config;
    let (n, w, m) = (v.positions(), v.hidden_size, v.intermediate_size);
    let (x, wide, qkv) = (random((n, w))?, random((n, m))?, random((n, 3 * w))?);
    for (name, x, out) in [
        ("qkv", &x, 3 * w),
        ("dense", &x, w),
        ("fc1", &x, m),
        ("fc2", &wide, w),
    ] {
        let inp = x.dim(1)?;
        let (weight, bias) = (random((out, inp))?, vector(out)?);
        let what = format!("vision {name}, {n}×{inp} by {out}");
        add(what, &mut || {
            kernels::linear(x, &weight, Some(&bias)).map(drop)
        })?;
    }
    let (bias, norm, weight) = (vector(m)?, random((2, w))?, random((m, w))?);
    let what = format!("vision bias and GELU, {n}×{m}");
    add(what, &mut || kernels::bias_gelu(&wide, &bias))?;
    both_ways(&mut add, "vision fc1 and GELU".into(), &mut || {
        kernels::linear_then(&x, &weight, Then::Gelu { bias: &bias }).map(drop)
    })?;
    add("vision residual and norm".into(), &mut || {
        kernels::add_layer_norm(&x, &x.copy()?, &norm, 1e-6)
    })?;
    let what = format!(
        "vision attention, {} heads of {}",
        v.num_heads,
        w / v.num_heads
    );
    both_ways(&mut add, what, &mut || {
        kernels::vision_attention(&qkv, v.num_heads, 0..n).map(drop)
    })?;

    let (h, f, heads) = (c.hidden_size, c.ffn_hidden_size, c.num_attention_heads);
    let (kv_heads, size) = (c.multi_query_group_num, c.kv_channels);
    let pages = (PROMPT + QUESTION).div_ceil(PAGE) + 1;
    let arena = Arena::new(pages, 1, kv_heads, size, dtype, device)?;
    let rotary = Rotary::new(c.rotary_size(), 10000.0);
    let norm = vector(h)?;
    for (start, len) in [(0, PROMPT), (PROMPT, QUESTION), (PROMPT, 1)] {
        let (x, qkv, gated) = (
            random((len, h))?,
            random((len, c.qkv_size()))?,
            random((len, 2 * f))?,
        );
        for (name, x, out) in [("qkv", &x, c.qkv_size()), ("gate and up", &x, 2 * f)] {
            let weight = random((out, h))?;
            let what = format!("decoder {name}, {len} rows");
            add(what, &mut || kernels::linear(x, &weight, None).map(drop))?;
        }
        let (weight, what) = (
            random((2 * f, h))?,
            format!("decoder gate and up and SwiGLU, {len} rows"),
        );
        both_ways(&mut add, what, &mut || {
            kernels::linear_then(&x, &weight, Then::Swiglu).map(drop)
        })?;
        let what = format!("decoder norm, {len} rows");
        add(what, &mut || kernels::rms_norm(&x, &norm, 1e-6).map(drop))?;
        let what = format!("decoder SwiGLU, {len} rows");
        add(what, &mut || kernels::swiglu(&gated).map(drop))?;
        let span = Span {
            start,
            len,
            pages: (0..pages as u32).collect(),
        };
        let places: Vec<u32> = (start..start + len).map(|p| p as u32).collect();
        let plan = Plan::new(vec![span], &places, &rotary)?;
        let what = format!("decoder cache, {len} rows");
        add(what, &mut || kernels::store_kv(&arena, 0, &qkv, &plan))?;
        let what = format!("decoder attention, {len} rows behind {start}");
        both_ways(&mut add, what, &mut || {
            kernels::paged_attention(&qkv, &arena, 0, heads, &plan).map(drop)
        })?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Config {
        Config::parse(include_bytes!(
            "../../../../tests/data/glm-4v-9b.config.json"
        ))
        .unwrap()
    }

    #[test]
    fn the_floors_are_the_published_models() {
        let c = published();
        // By hand: 63 layers of 6401 rows, 67,895,296 weights and 4·6401²·1792 for the attention; the adapter apart.
        let tower = 63.0 * (2.0 * 6401.0 * 67_895_296.0 + 4.0 * 6401f64.powi(2) * 1792.0);
        let adapter = 2.0 * 1600.0 * 214_433_792.0;
        assert!((vision_flops(&c) / (tower + adapter) - 1.0).abs() < 1e-9);
        assert!((step_bytes(&c, Quantize::None).unwrap() / 17.56e9 - 1.0).abs() < 0.01);
        assert!((step_bytes(&c, Quantize::Q4).unwrap() / 4.94e9 - 1.0).abs() < 0.01);
        assert!((prefill_flops(&c, 1, 0) / (2.0 * 8.158e9) - 1.0).abs() < 0.01);
    }

    #[test]
    fn the_peer_is_read_by_its_own_names() {
        let peer =
            Peer::parse("mem GiB 26.1\ntorch vision ms 139.2\nB=1 torch prefill 1620 ms 52.0\n");
        assert_eq!(peer.of("torch vision ms"), Some(139.2));
        assert_eq!(peer.of("B=1 torch prefill 1620 ms"), Some(52.0));
        assert_eq!(peer.of("copy TB/s"), None);
    }
}
