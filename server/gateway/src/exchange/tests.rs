//! Requests with an engine that the test itself plays.
