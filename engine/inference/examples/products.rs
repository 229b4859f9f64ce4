//! Rates of the matrix products that a decoder of 135M parameters is made of,
//! one JSON object per line: `{"shape": [rows, depth, columns], "gflops": n}`.
//!
//! As in the engine, the rows are cut into tiles that the threads take, rows
//! are packed for every product, and wide outputs go by in blocks that are used
//! up at once. `RAYON_NUM_THREADS` sets the threads.

use std::error::Error;
use std::time::Instant;

use evaltasks_inference::internals::{Level, PackedRows, Panels, Start, WIDTH, product};
use rayon::prelude::*;

/// Rows, depth and columns.
const SHAPES: [[usize; 3]; 3] = [[2048, 576, 1536], [2048, 576, 49152], [512, 576, 1536]];
/// Rows of a tile at most.
const TILE_ROWS: usize = 192;
/// Columns of the output that exist at once.
const MAX_COLUMNS: usize = 3072;
/// Repetitions, of which the fastest counts.
const REPETITIONS: usize = 15;

/// Buffers of one thread.
#[derive(Default)]
struct Buffers {
    rows: PackedRows,
    out: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let level = match std::env::args().nth(1) {
        Some(name) => name.parse()?,
        None => Level::detect(),
    };
    for shape in SHAPES {
        let rate = fastest(level, shape);
        println!("{}", serde_json::json!({"shape": shape, "gflops": rate}));
    }
    Ok(())
}

/// GFLOP/s of the fastest repetition.
fn fastest(level: Level, [rows, depth, columns]: [usize; 3]) -> f64 {
    let left = numbers(rows * depth);
    let right = numbers(columns * depth);
    let threads = rayon::current_num_threads();
    let tiles = rows.div_ceil(threads * TILE_ROWS) * threads;
    let tile_rows = rows.div_ceil(tiles);
    let mut best_seconds = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        left.par_chunks(tile_rows * depth).with_max_len(1).for_each_init(
            Buffers::default,
            |buffers, tile| {
                let count = tile.len() / depth;
                buffers.rows.pack(level, count, depth, 1.0, |row| &tile[row * depth..]);
                let width = columns.min(MAX_COLUMNS);
                buffers.out.resize(count * width, 0.0);
                for panels in right.chunks(width * depth) {
                    product(
                        level,
                        &buffers.rows,
                        Panels::F32(panels),
                        depth * WIDTH,
                        panels.len() / depth / WIDTH,
                        Start::Zero,
                        &mut buffers.out,
                        width,
                    );
                }
                std::hint::black_box(&buffers.out);
            },
        );
        best_seconds = best_seconds.min(start.elapsed().as_secs_f64());
    }
    2.0 * (rows * depth * columns) as f64 / best_seconds / 1e9
}

/// Numbers around zero.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919) % 1009) as f32 / 504.0 - 1.0).collect()
}
