//! One side of `tests/pixels/bench.py`, which see: reads `FILE<tab>SIZE<tab>raw|kind<tab>OUT` lines, answers each with
//! its times in milliseconds. `OUT`, unless empty, gets the pixels: [S, S, 3] bytes.

use std::io::{BufRead, Write};
use std::time::Instant;

use glimpse_image::{Options, load};
use model::glm4v::transform;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut floats = Vec::new();
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let [file, size, mode, to] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| "FILE<tab>SIZE<tab>raw|kind<tab>OUT")?;
        let bytes = std::fs::read(file)?;
        let options = Options {
            raw: mode == "raw",
            ..Options::default()
        };
        let start = Instant::now();
        let picture = load(&bytes, size.parse()?, &options)?;
        floats.resize(picture.pixels.rgb().len(), 0.0);
        transform::write_f32_chw(&picture.pixels, &mut floats);
        let total_ms = start.elapsed().as_secs_f64() * 1e3;
        let (decode_ms, resize_ms) = (picture.decode_ms, picture.preprocess_ms);
        if !to.is_empty() {
            std::fs::write(to, picture.pixels.rgb())?;
        }
        writeln!(
            out,
            "{{\"decode\": {decode_ms}, \"resize\": {resize_ms}, \"total\": {total_ms}}}"
        )?;
        out.flush()?;
    }
    Ok(())
}
