//! Models by their names: found in the caches that the hubs' own tools use, fetched into them, listed and removed. What Python
//! has fetched is found here, and what is fetched here Python finds.
//!
//! Knows nothing of what a model is, only which of its files are read.

mod cached;
mod checksum;
mod compare;
mod copies;
mod error;
mod fetch;
mod http;
mod hugging_face;
mod lock;
mod model_scope;
mod name;
mod needed;
mod progress;
mod pull;
mod settings;
mod shared;
mod source;

pub use cached::{Cached, models, remove};
pub use compare::compare;
pub use error::{Code, Error};
pub use name::{Hub, Model, Name};
pub use progress::{FileProgress, Progress, Watch};
pub use pull::{find, pull};
pub use settings::{Settings, Site};

/// 27812641792 → 25.9 GiB.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        // What would be rounded up to 1024 is the next one.
        if size < 1023.95 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        _ => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(0), "0 bytes");
        assert_eq!(human(27_812_641_792), "25.9 GiB");
        assert_eq!(human((1 << 30) - 1), "1.0 GiB");
        assert_eq!(human(1 << 20), "1.0 MiB");
    }
}
