//! Is importing a qcow2 image, hashing included, as fast as converting it to raw?
//!
//! Same image, same file system, in turn; the image is in the page cache for both. Ours always ends
//! durable. `qemu-img convert` ends with nothing synced, so it is measured with and without a sync
//! of its result, and the budget is for the like: the one that syncs.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use block_store::{BackingPolicy, ImageFormat, ImageSource, LayerKind, LayerLabel};

use super::{Findings, Scope};
use crate::{
    MIB,
    dirt::Random,
    engine::Engine,
    filesystem::Place,
    peers::qemu_img::{Compression, QemuImg},
    ratio,
    table::Finding,
};

/// The largest ratio to the conversion that ends as durable as ours.
const AT_MOST: f64 = 1.0;

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Converted,
    ConvertedAndSynced,
}

const SIDES: [Side; 3] = [Side::Ours, Side::Converted, Side::ConvertedAndSynced];

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let Some(qemu_img) = QemuImg::find() else {
        let why = "qemu-img is not on this machine: neither an image nor a peer".into();
        return Ok(vec![("all".into(), Finding::Failed(why))]);
    };
    let folder = place.folder()?;
    let raw = folder.path().join("image.raw");
    let mebibytes = scope.size(2048, 128);
    write_mixed(&raw, mebibytes)?;
    let bench = Bench { place, engine: Engine::on(place)?, qemu_img };
    let mut found = Vec::new();
    let kinds = [(Compression::None, "plain"), (Compression::Deflate, "compressed")];
    for (compression, name) in kinds {
        let qcow2 = folder.path().join(name);
        qemu_img.to_qcow2(&raw, &qcow2, compression)?;
        let case = format!("{name} qcow2, {mebibytes} MiB of mixed content");
        found.extend(bench.compare(scope.rounds, &qcow2, &case)?);
    }
    Ok(found)
}

/// A quarter zeros, a quarter of what compresses well, half of what does not, in turn by MiB.
fn write_mixed(path: &Path, mebibytes: u64) -> anyhow::Result<()> {
    let mut file = File::create_new(path)?;
    let (mut random, mut piece) = (Random::new(7), vec![0; usize::try_from(MIB)?]);
    for number in 0..mebibytes {
        match number % 4 {
            0 => piece.fill(0),
            1 => fill_with_text(&mut random, &mut piece),
            _ => random.fill(&mut piece),
        }
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

fn fill_with_text(random: &mut Random, piece: &mut [u8]) {
    for line in piece.chunks_mut(64) {
        let text =
            format!("{:>20} INFO a line as logs hold many of them, all alike\n", random.number());
        let length = line.len().min(text.len());
        line.fill(b' ');
        line[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
}

struct Bench<'p> {
    place: &'p Place,
    engine: Engine,
    qemu_img: QemuImg,
}

impl Bench<'_> {
    fn compare(&self, rounds: usize, image: &Path, case: &str) -> anyhow::Result<Findings> {
        let samples = ratio::interleave(rounds, &SIDES, |side| {
            self.place.settle()?;
            match side {
                Side::Ours => self.import(image),
                Side::Converted => self.convert(image, QemuImg::to_raw),
                Side::ConvertedAndSynced => self.convert(image, QemuImg::to_durable_raw),
            }
        })?;
        let against = |name, side: usize, at_most| Finding::Compared {
            ours: samples[0].clone(),
            peer: (name, samples[side].clone()),
            at_most,
        };
        Ok(vec![
            (case.to_owned(), against("qemu-img convert, synced", 2, Some(AT_MOST))),
            (format!("{case}; the peer syncs nothing"), against("qemu-img convert", 1, None)),
        ])
    }

    /// Imports, and undoes it outside of the clock.
    fn import(&self, image: &Path) -> anyhow::Result<f64> {
        let store = self.engine.store();
        let label = LayerLabel {
            kind: LayerKind::Image,
            id: "m-bench".into(),
            account: "default".into(),
            name: "bench".into(),
        };
        let begun = Instant::now();
        let source = ImageSource::open(
            File::open(image)?,
            None,
            Some(ImageFormat::Qcow2),
            BackingPolicy::Refuse,
        )?;
        let staged = store.import(&source, label, &())?;
        let took = begun.elapsed().as_secs_f64();
        drop(staged);
        store.wait_for_background();
        Ok(took)
    }

    /// Converts, and removes the result outside of the clock.
    fn convert(
        &self,
        image: &Path,
        way: impl FnOnce(QemuImg, &Path, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let folder = self.place.folder()?;
        let raw: PathBuf = folder.path().join("converted.raw");
        let begun = Instant::now();
        way(self.qemu_img, image, &raw)?;
        let took = begun.elapsed().as_secs_f64();
        fs::remove_file(&raw)?;
        Ok(took)
    }
}
