//! Prints the token ids of texts, to compare the tokenizer with others.
//!
//! `tokenize FOLDER < texts.json`: FOLDER holds tokenizer.model and tokenizer_config.json, standard input a JSON list
//! of texts. Prints `{"load_ms": …, "ids": [[…], …]}`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use glimpse_model::text::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("usage: tokenize FOLDER < texts.json")?;
    let folder = PathBuf::from(folder);
    let texts: Vec<String> = serde_json::from_reader(std::io::stdin().lock())?;

    let start = Instant::now();
    let model = std::fs::read(folder.join("tokenizer.model"))?;
    let config = std::fs::read(folder.join("tokenizer_config.json"))?;
    let tokenizer = Tokenizer::from_files(&model, &config)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;

    let ids: Result<Vec<_>, _> = texts.iter().map(|text| tokenizer.encode(text)).collect();
    println!("{}", serde_json::json!({ "load_ms": load_ms, "ids": ids? }));
    Ok(())
}
