//! What an import costs: dense content per MiB, hashed and made durable, and a disk of 1 TiB that
//! is almost all holes, where the root must not cost what its size says.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use benches::{MIB, TIB, dirt::Random, engine::Engine, filesystem};
use block_store::{BackingPolicy, ImageFormat, ImageSource, LayerKind, LayerLabel};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

fn dense(criterion: &mut Criterion) {
    const MEBIBYTES: u64 = 64;
    let image = Image::make(MEBIBYTES * MIB, MEBIBYTES).expect("an image");
    let engine = Engine::temporary().expect("a store");
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10).throughput(Throughput::Bytes(MEBIBYTES * MIB));
    group.bench_function("64 MiB of random content", |bencher| {
        bencher.iter(|| import(&engine, &image).expect("it is imported"));
    });
}

fn sparse(criterion: &mut Criterion) {
    let image = Image::make(TIB, 1).expect("an image");
    let engine = Engine::temporary().expect("a store");
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10);
    group.bench_function("1 TiB with 1 MiB of content", |bencher| {
        bencher.iter(|| import(&engine, &image).expect("it is imported"));
    });
}

struct Image {
    path: PathBuf,
    _folder: TempDir,
}

impl Image {
    /// A raw image of this size with so many MiB of content at its beginning.
    fn make(size: u64, mebibytes: u64) -> anyhow::Result<Self> {
        let folder = filesystem::disk_folder()?;
        let path = folder.path().join("image.raw");
        let file = File::create_new(&path)?;
        let (mut random, mut piece) = (Random::new(1), vec![0; usize::try_from(MIB)?]);
        for number in 0..mebibytes {
            random.fill(&mut piece);
            file.write_all_at(&piece, number * MIB)?;
        }
        file.set_len(size)?;
        file.sync_all()?;
        Ok(Self { path, _folder: folder })
    }
}

/// Imports it and drops it again, so that the next one does not find the same content.
fn import(engine: &Engine, image: &Image) -> anyhow::Result<()> {
    let source = open(&image.path)?;
    let label = LayerLabel {
        kind: LayerKind::Image,
        id: "m-bench".into(),
        account: "default".into(),
        name: "bench".into(),
    };
    drop(engine.store().import(&source, label, &())?);
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<ImageSource> {
    let file = File::open(path)?;
    Ok(ImageSource::open(file, None, Some(ImageFormat::Raw), BackingPolicy::Refuse)?)
}

criterion_group!(group, dense, sparse);
criterion_main!(group);
