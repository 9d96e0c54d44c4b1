//! What decoding in a process costs beside decoding on a thread, in turn, on a 1920×1080 JPEG of 1.2 MB or the file given:
//!
//!     cargo run --release -p glimpse-image --example process_overhead [FILE]
//!
//! Each time runs from a whole file in memory to pixels that its owner may read, header and all.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::{Duration, Instant};

    use glimpse_image::process::{Process, run};
    use glimpse_image::{FileBuffer, Options, load};

    const ROUNDS: usize = 200;
    const SIZE: u32 = 1120;
    const TIME: Duration = Duration::from_secs(20);

    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("decoder") {
        return Ok(run()?);
    }
    let bytes = match argument {
        Some(path) => std::fs::read(path)?,
        None => photo()?,
    };
    let mut program = std::process::Command::new("/proc/self/exe");
    let mut process = Process::start(program.arg("decoder"))?;
    let options = Options::default();
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 10 {
        let start = Instant::now();
        let picture = load(&bytes, SIZE, &options)?;
        let on_thread = start.elapsed();

        // As it comes in from the network, which is no part of this.
        let mut file = FileBuffer::default();
        for piece in bytes.chunks(64 << 10) {
            file.push(piece, bytes.len() as u64)?;
        }
        let start = Instant::now();
        let probed = process
            .probe(&mut file, SIZE, &options, TIME)
            .map_err(told)?;
        let other = process.decode(&file, probed, TIME).map_err(told)?;
        let in_process = start.elapsed();

        assert!(picture.pixels == other.pixels);
        // The first ones find their buffers.
        if round >= 10 {
            here.push(on_thread.as_secs_f64() * 1e3);
            there.push(in_process.as_secs_f64() * 1e3);
        }
    }
    println!("{} bytes, {ROUNDS} rounds, median ms:", bytes.len());
    let (here, there) = (median(here), median(there));
    println!("on a thread   {here:6.2}");
    println!("in a process  {there:6.2}  (+ {:.2})", there - here);
    Ok(())
}

#[cfg(target_os = "linux")]
fn told(failure: glimpse_image::process::Failure) -> String {
    format!("{failure:?}")
}

#[cfg(target_os = "linux")]
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Waves and noise, as a camera's pictures have them.
#[cfg(target_os = "linux")]
fn photo() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    use rand::{RngExt, SeedableRng};
    const WIDTH: usize = 1920;
    const HEIGHT: usize = 1080;
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let pixels: Vec<u8> = (0..WIDTH * HEIGHT)
        .flat_map(|i| {
            let (x, y) = ((i % WIDTH) as f32, (i / WIDTH) as f32);
            let wave = |a: f32, b: f32| 127.0 + 70.0 * (x / a).sin() + 50.0 * (y / b).cos();
            [wave(31.0, 23.0), wave(57.0, 41.0), wave(13.0, 17.0)]
                .map(|v| (v + random.random_range(-24.0..24.0)).clamp(0.0, 255.0) as u8)
        })
        .collect();
    Ok(glimpse_image::to_jpeg(&pixels, WIDTH, HEIGHT, 88)?)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("Decoder processes are for Linux alone.");
}
