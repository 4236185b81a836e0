//! Packs the OpenRPC document, one line without the spaces between its members: it is then a quarter as large in the program.

use std::path::PathBuf;
use std::{env, fs, io};

const DOCUMENT: &str = "../man/openrpc.json";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={DOCUMENT}");
    let text = fs::read_to_string(DOCUMENT)?;
    let line: String = text.lines().map(str::trim_start).collect();
    let packed = lz4_flex::block::compress_prepend_size(line.as_bytes());
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(folder.join("openrpc.json.lz4"), packed)
}
