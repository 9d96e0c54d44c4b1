//! Figures for people.

/// `bytes` for people: `2.4 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Milliseconds for people: `84 ms`, `2.4 s`.
pub fn duration(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1e3)
    }
}

/// Seconds that something will still take, for people: `8 s`, `4 min`, `2.5 h`.
pub fn remaining(seconds: f64) -> String {
    if seconds < 59.5 {
        format!("{seconds:.0} s")
    } else if seconds < 99.5 * 60.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(20_400_000), "20.4 MB");
        assert_eq!(duration(4.21), "4.2 ms");
        assert_eq!(duration(84.4), "84 ms");
        assert_eq!(duration(999.7), "1.0 s");
        assert_eq!(remaining(7.6), "8 s");
        assert_eq!(remaining(200.0), "3 min");
        assert_eq!(remaining(9_000.0), "2.5 h");
    }
}
