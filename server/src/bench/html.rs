//! The report as one HTML file.
use super::report::Report;
pub fn report(_report: &Report) -> String {
    String::new()
}
