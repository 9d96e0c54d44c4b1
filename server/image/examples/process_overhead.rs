//! What decoding in a process costs beside decoding on a thread, in turn, on a 1920×1080 JPEG of 1.2 MB or the file given:
//!
//!     cargo run --release -p glimpse-image --example process_overhead [FILE]
//!
//! Each time runs from a whole file in memory to pixels that its owner may read, header and all. Beside the time by the
//! clock stands the processor time of both sides, which other programs on the machine change less.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::collections::VecDeque;
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
    // A server keeps pixels for as long as they may be asked about, so that the next ones need other memory.
    let mut kept = VecDeque::new();
    for round in 0..ROUNDS + 10 {
        let (start, busy) = (Instant::now(), own_time()?);
        let picture = load(&bytes, SIZE, &options)?;
        let on_thread = [start.elapsed(), own_time()? - busy];

        // As it comes in from the network, which is no part of this.
        let mut file = FileBuffer::default();
        for piece in bytes.chunks(64 << 10) {
            file.push(piece, bytes.len() as u64)?;
        }
        let (start, busy) = (Instant::now(), own_time()? + process.processor_time()?);
        let probed = process.probe(&mut file, &options, TIME).map_err(told)?;
        let other = process.decode(&file, probed, SIZE, TIME).map_err(told)?;
        let busy_after = own_time()? + process.processor_time()?;
        let in_process = [start.elapsed(), busy_after - busy];

        assert!(picture.pixels == other.pixels);
        kept.push_back((picture.pixels, other.pixels));
        if kept.len() > 8 {
            kept.pop_front();
        }
        process.prepare()?;
        // The first ones find their buffers.
        if round >= 10 {
            here.push(on_thread);
            there.push(in_process);
        }
    }
    println!(
        "{} bytes, {ROUNDS} rounds, median ms:   clock  processor",
        bytes.len()
    );
    let (here, there) = (medians(&here), medians(&there));
    let more = [there[0] - here[0], there[1] - here[1]];
    for (name, [clock, processor]) in [
        ("on a thread", here),
        ("in a process", there),
        ("more", more),
    ] {
        println!("{name:<40} {clock:6.2}  {processor:9.2}");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn told(failure: glimpse_image::process::Failure) -> String {
    format!("{failure:?}")
}

/// Of each of the two times, in milliseconds.
#[cfg(target_os = "linux")]
fn medians(times: &[[std::time::Duration; 2]]) -> [f64; 2] {
    [0, 1].map(|which| {
        let mut times: Vec<_> = times.iter().map(|times| times[which]).collect();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    })
}

/// Processor time of this thread.
#[cfg(target_os = "linux")]
fn own_time() -> std::io::Result<std::time::Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().map_err(std::io::Error::other)
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
    Ok(glimpse_image::to_jpeg(&pixels, WIDTH, HEIGHT, 94)?)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("Decoder processes are for Linux alone.");
}
