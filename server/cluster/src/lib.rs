//! The room for what gateways and workers on different machines say to each other: [`api::Command`] and [`api::Report`] over
//! a network. It stands on `api` alone, and is empty as long as a server is one process.
