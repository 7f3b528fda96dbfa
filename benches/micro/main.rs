//! One hot function at a time: `cargo bench -p pillarbox-benches`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pillarbox_benches::{Bodies, Groups, Inline, checksum};

const BATCH: usize = 100;
const EXPECT: &str = "a box in memory has nothing to fail for";

fn boxes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("box");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("build a batch of 100", |bencher| {
        let mut inline = Inline::memory().expect(EXPECT);
        bencher.iter(|| inline.batch(BATCH).expect(EXPECT));
    });
    group.bench_function("submit 100", |bencher| {
        let mut inline = Inline::memory().expect(EXPECT);
        bencher.iter(|| {
            let batch = inline.batch(BATCH).expect(EXPECT);
            inline.commit(&batch).expect(EXPECT);
            // Outside of what is asked for, but a backlog that grows without end would be measured too.
            let leased = inline.lease(BATCH).expect(EXPECT);
            inline.commit(&inline.completion(&leased)).expect(EXPECT);
        });
    });
    group.bench_function("lease 100", |bencher| {
        bencher.iter_batched(
            || {
                let mut inline = Inline::memory().expect(EXPECT);
                let batch = inline.batch(BATCH).expect(EXPECT);
                inline.commit(&batch).expect(EXPECT);
                inline
            },
            |inline| inline.lease(BATCH).expect(EXPECT),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("complete 100", |bencher| {
        bencher.iter_batched(
            || {
                let mut inline = Inline::memory().expect(EXPECT);
                let batch = inline.batch(BATCH).expect(EXPECT);
                inline.commit(&batch).expect(EXPECT);
                let leased = inline.lease(BATCH).expect(EXPECT);
                let completion = inline.completion(&leased);
                (inline, completion)
            },
            |(inline, completion)| inline.commit(&completion).expect(EXPECT),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    for count in [1, 100] {
        group.throughput(Throughput::Bytes(count * 1024));
        group.bench_function(format!("group of {count}"), |bencher| {
            let mut groups = Groups::new().expect(EXPECT);
            bencher.iter(|| groups.write(count).expect(EXPECT));
        });
    }
    group.finish();
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for bytes in [1024, 64 * 1024] {
        let body = Bodies::new(bytes).get(3);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{} KiB", bytes / 1024), |bencher| bencher.iter(|| checksum(&body)));
    }
    group.finish();
}

criterion_group!(hot, boxes, journal, checksums);
criterion_main!(hot);
