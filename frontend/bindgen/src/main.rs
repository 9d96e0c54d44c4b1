//! `glimpse-page-bindgen MODULE FOLDER NAME`: writes `NAME.js` and `NAME_bg.wasm`, a module as browsers load it, of what the
//! compiler made; as `wasm-bindgen --target web --no-typescript` does.

use std::path::PathBuf;
use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(module), Some(folder), Some(name), None) =
        (args.next(), args.next(), args.next(), args.next())
    else {
        eprintln!("usage: glimpse-page-bindgen MODULE FOLDER NAME");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen.web(true).and_then(|bindgen| {
        bindgen
            .input_path(PathBuf::from(module))
            .out_name(&name.to_string_lossy())
            // The script knows where its module lies.
            .omit_default_module_path(false)
            .generate(PathBuf::from(folder))
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("glimpse-page-bindgen: {problem:?}");
            ExitCode::FAILURE
        }
    }
}
