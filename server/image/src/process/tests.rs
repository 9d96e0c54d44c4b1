//! Decoder processes: this test's own program, told to be one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::{Decoder, FileBuffer, Options, Picture, load, to_jpeg};

const TIME: Duration = Duration::from_secs(60);
/// The argument by which [`decoder`] knows that it is to be one.
const SIGN: &str = "--skip=be-a-decoder";

/// No test: what [`start`] starts.
#[test]
fn decoder() {
    if std::env::args().any(|argument| argument == SIGN) {
        let ended = run();
        std::process::exit(i32::from(ended.is_err()));
    }
}

fn program(test: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let name = format!("process::tests::{test}");
    program.args([&name, "--exact", "--nocapture", "--test-threads=1", SIGN]);
    program
}

fn start() -> Process {
    Process::start(&mut program("decoder")).unwrap()
}

fn read(process: &mut Process, file: Vec<u8>, options: &Options) -> Result<Picture, Failure> {
    let mut file = FileBuffer::of(file);
    let probed = process.probe(&mut file, options, TIME)?;
    process.decode(&file, probed, 64, TIME)
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels");
    let [usual, heif] =
        ["fixtures", "heif"].map(|name| std::fs::read_dir(folder.join(name)).unwrap());
    usual
        .chain(heif)
        .map(|file| {
            let path = file.unwrap().path();
            (path.display().to_string(), std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn every_kind_of_picture_is_what_it_is_without_a_process() {
    let mut process = start();
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        let options = Options {
            decoder,
            ..Options::default()
        };
        for (name, file) in fixtures() {
            match (
                load(&file, 64, &options),
                read(&mut process, file, &options),
            ) {
                (Ok(here), Ok(there)) => {
                    assert_eq!(here.pixels, there.pixels, "{name}");
                    assert_eq!(
                        (here.width, here.height, here.format),
                        (there.width, there.height, there.format)
                    );
                }
                (Err(here), Err(Failure::Picture(there))) => assert_eq!(here, there, "{name}"),
                (here, there) => panic!("{name}: {here:?} here, {there:?} there"),
            }
        }
        assert!(process.is_fit());
    }
}

/// No test: tries what a decoder that was taken over would, and ends with how much of it worked.
#[test]
fn intruder() {
    if !std::env::args().any(|argument| argument == SIGN) {
        return;
    }
    let filtered = sandbox::enter();
    let worked = [
        std::fs::File::open("/proc/self/status").is_ok(),
        std::fs::File::create("/tmp/glimpse-intruder").is_ok(),
        std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
        std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
        Command::new("/bin/true").spawn().is_ok(),
        std::thread::Builder::new().spawn(|| {}).is_ok(),
        memmap2::MmapMut::map_anon(4096).is_ok_and(|map| map.make_exec().is_ok()),
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::CONT)
            .is_ok(),
        rustix::process::setrlimit(
            rustix::process::Resource::As,
            rustix::process::getrlimit(rustix::process::Resource::As),
        )
        .is_ok(),
    ];
    let memory = vec![1_u8; 1 << 20];
    assert!(memory.iter().all(|byte| *byte == 1));
    let worked = worked.iter().filter(|worked| **worked).count() as i32;
    std::process::exit(if filtered { worked } else { 100 });
}

#[test]
fn it_can_do_nothing_but_decode() {
    let status = program("intruder").status().unwrap();
    assert_eq!(
        status.code(),
        Some(0),
        "so much of what it must not do worked"
    );
    assert!(start().is_sandboxed());
}

#[test]
fn more_memory_than_the_header_explains_is_not_to_be_had() {
    let mut process = start();
    let file = to_jpeg(&vec![100; 5000 * 5000 * 3], 5000, 5000, 80).unwrap();
    let mut file = FileBuffer::of(file);
    let options = Options::default();
    let mut probed = process.probe(&mut file, &options, TIME).unwrap();
    probed.header.memory = 0;
    let failure = process.decode(&file, probed, 64, TIME).map(drop);
    // At an eighth it fits into the slack; as it is it doesn't.
    assert!(failure.is_ok(), "{failure:?}");
    let raw = Options {
        raw: true,
        ..options
    };
    let mut probed = process.probe(&mut file, &raw, TIME).unwrap();
    probed.header.memory = 0;
    let failure = process
        .decode(&file, probed, 64, TIME)
        .map(drop)
        .unwrap_err();
    assert!(matches!(failure, Failure::Died(_)), "{failure:?}");
    // Another is as good as new.
    let file = file.bytes().to_vec();
    assert!(read(&mut start(), file, &options).is_ok());
}

#[test]
fn it_ends_when_it_is_told_to_and_when_its_time_is_over() {
    let options = Options::default();
    let file = to_jpeg(&vec![100; 4000 * 4000 * 3], 4000, 4000, 80).unwrap();
    let mut process = start();
    process.killer().kill();
    let failure = read(&mut process, file.clone(), &options).map(drop);
    assert!(failure.is_err());
    // Killing what is gone already does nothing.
    let killer = process.killer();
    drop(process);
    killer.kill();
    let raw = Options {
        raw: true,
        ..options
    };
    let mut process = start();
    let mut file = FileBuffer::of(file);
    let probed = process.probe(&mut file, &raw, TIME).unwrap();
    process.stop_for_a_test();
    let failure = process
        .decode(&file, probed, 64, Duration::from_millis(10))
        .map(drop)
        .unwrap_err();
    assert!(matches!(failure, Failure::TooLong), "{failure:?}");
}

#[test]
fn what_is_no_picture_is_told_and_costs_nothing() {
    let mut process = start();
    for file in [vec![], b"no picture".to_vec(), vec![0xff; 200_000]] {
        let here = load(&file, 64, &Options::default()).unwrap_err();
        match read(&mut process, file, &Options::default()) {
            Err(Failure::Picture(there)) => assert_eq!(here, there),
            other => panic!("{other:?}"),
        }
    }
}

impl Process {
    /// SIGSTOP: it stands still, as on a machine with much else to do.
    fn stop_for_a_test(&self) {
        let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::STOP);
    }
}
