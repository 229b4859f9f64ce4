//! The parts of a layer on one thread, at the sizes of a decoder of 135M
//! parameters and 2,048 positions, so that a regression shows where it is.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evaltasks_inference::internals::{
    Activation, AttentionScratch, AttentionShape, Head, HeadScratch, KeyValues, Level, NormKind,
    PackedRows, Pairing, Panels, Start, WIDTH, activate, attend, norm, product, rotate,
    token_logprobs,
};

const HIDDEN: usize = 576;
const INTERMEDIATE: usize = 1536;
const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const VOCABULARY: usize = 49_152;
/// Rows of a tile.
const ROWS: usize = 171;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919) % 1009) as f32 / 504.0 - 1.0).collect()
}

fn attention(criterion: &mut Criterion) {
    let level = Level::detect();
    let shape = AttentionShape {
        heads: HEADS,
        kv_heads: KEY_HEADS,
        head_dim: HEAD_DIM,
        scale: 0.125,
        softcap: None,
        window: None,
        alibi_slopes: Vec::new(),
    };
    let width = HEADS * HEAD_DIM;
    let queries = numbers(ROWS * width);
    let mut out = vec![0.0; ROWS * width];
    let mut scratch = AttentionScratch::default();
    let mut group = criterion.benchmark_group("attention");
    for first in [0, 2048 - ROWS] {
        let positions = first + ROWS;
        let mut keys = KeyValues::new(level);
        keys.reset(KEY_HEADS, HEAD_DIM, positions);
        let one = numbers(KEY_HEADS * HEAD_DIM);
        for _ in 0..positions {
            keys.push(&one, &one);
        }
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(format!("from position {first}"), |bencher| {
            bencher.iter(|| {
                let (out, scratch) = (&mut out, &mut scratch);
                attend(level, &shape, first, ROWS, &queries, width, &keys, out, width, scratch);
            });
        });
    }
}

fn mlp(criterion: &mut Criterion) {
    let level = Level::detect();
    let input = numbers(ROWS * HIDDEN);
    let weights = numbers(2 * INTERMEDIATE * HIDDEN);
    let narrow: Vec<u16> = weights.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let (wide, columns) = (2 * INTERMEDIATE, 2 * INTERMEDIATE / WIDTH);
    let mut out = vec![0.0; ROWS * wide];
    let mut activated = vec![0.0; ROWS * INTERMEDIATE];
    let mut packed = PackedRows::default();
    let mut group = criterion.benchmark_group("mlp");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, panels) in
        [("up in float32", Panels::F32(&weights)), ("up in bfloat16", Panels::BF16(&narrow))]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                packed.pack(level, ROWS, HIDDEN, 1.0, |row| &input[row * HIDDEN..]);
                let (stride, start) = (HIDDEN * WIDTH, Start::Zero);
                product(level, &packed, panels, stride, columns, start, &mut out, wide);
            });
        });
    }
    group.bench_function("gate", |bencher| {
        bencher.iter(|| {
            for (row, target) in out.chunks(wide).zip(activated.chunks_mut(INTERMEDIATE)) {
                let (gate, up) = row.split_at(INTERMEDIATE);
                activate(level, Activation::Silu, gate, Some(up), target);
            }
        });
    });
}

fn loss_head(criterion: &mut Criterion) {
    let level = Level::detect();
    let hidden = numbers(ROWS * HIDDEN);
    let weights = numbers(VOCABULARY * HIDDEN);
    let head = Head {
        panels: Panels::F32(&weights),
        width: HIDDEN,
        tokens: VOCABULARY,
        bias: &[],
        softcap: None,
    };
    let mut scratch = HeadScratch::default();
    let mut group = criterion.benchmark_group("loss head");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    group.bench_function("log-probabilities", |bencher| {
        bencher.iter(|| {
            let mut found = Vec::with_capacity(ROWS);
            let row = |index: usize| &hidden[index * HIDDEN..];
            token_logprobs(level, &head, row, 0..ROWS as u32, &mut scratch, &mut found);
            found
        });
    });
}

fn single_rows(criterion: &mut Criterion) {
    let level = Level::detect();
    let (input, weight) = (numbers(ROWS * HIDDEN), numbers(HIDDEN));
    let mut out = vec![0.0; ROWS * HIDDEN];
    let angles = numbers(HEAD_DIM / 2);
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("norm", |bencher| {
        bencher.iter(|| {
            for (row, target) in input.chunks(HIDDEN).zip(out.chunks_mut(HIDDEN)) {
                norm(level, NormKind::Rms, 1e-5, HIDDEN, &weight, &[], row, target);
            }
        });
    });
    group.bench_function("rotary", |bencher| {
        bencher.iter(|| {
            for head in out.chunks_mut(HEAD_DIM) {
                rotate(level, Pairing::Half, &angles, &angles, head);
            }
        });
    });
}

criterion_group!(benches, attention, mlp, loss_head, single_rows);
criterion_main!(benches);
