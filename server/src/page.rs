//! The page's files, which the binary holds: `dist/` as it was when this was built.

use gateway::doors::File;

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// All of them; none, if the page was not built before.
pub fn files() -> &'static [File] {
    FILES
}
