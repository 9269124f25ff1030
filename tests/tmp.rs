#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]
#![allow(dead_code)]
#[path = "all/config/mod.rs"]
mod config;
#[path = "all/floors.rs"]
mod floors;
#[path = "all/otlp.rs"]
mod otlp;
#[path = "all/receiving.rs"]
mod receiving;
#[path = "all/securing/mod.rs"]
mod securing;
#[path = "all/sending.rs"]
mod sending;
#[path = "all/telling.rs"]
mod telling;
