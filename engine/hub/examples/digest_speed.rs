//! How fast a model is digested, and compared with another.
//!
//! ```text
//! cargo run --release -p evaltasks-hub --example digest_speed -- MODEL [OTHER]
//! ```
//!
//! The first figure is that of the disk where the files are not in memory yet,
//! as after `echo 3 > /proc/sys/vm/drop_caches`.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use evaltasks_hub::{digest_model, likeness, sketch_model};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let path = paths.first().ok_or("name a model")?;
    let start = Instant::now();
    let (digest, sketch) = sketch_model(path, 0)?;
    let first = start.elapsed().as_secs_f64();
    let bytes: u64 = digest.files.iter().map(|file| file.bytes).sum();
    let print = |what, seconds| println!("{what}  {:.2} GB/s", bytes as f64 / seconds / 1e9);
    print("first ", first);
    let start = Instant::now();
    black_box(digest_model(path)?);
    print("digest", start.elapsed().as_secs_f64());
    let start = Instant::now();
    black_box(sketch_model(path, 0)?);
    print("sketch", start.elapsed().as_secs_f64());
    let (_, other) = sketch_model(paths.get(1).unwrap_or(path), 0)?;
    let start = Instant::now();
    let found = likeness(&sketch, &other, 1.0);
    println!("compare  {:.3} ms, {found:?}", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
