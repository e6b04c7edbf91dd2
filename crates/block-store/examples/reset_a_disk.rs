//! The store as an embedded library: import an image, write, take a snapshot, reset, read back.
//!
//! `cargo run -p block-store --example reset_a_disk`

use std::{error::Error, io::Write, sync::Arc, time::SystemTime};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::*;

#[expect(clippy::print_stdout, reason = "an example shows what it found")]
fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    Store::create(&FileStorage::open(directory.path())?)?;
    let store = Store::open(Arc::new(FileStorage::open(directory.path())?))?;
    store.settle_alone()?;

    // An image of 1 MiB of sevens becomes a sealed layer.
    let mut file = tempfile::tempfile()?;
    file.write_all(&[7; 1 << 20])?;
    let image = ImageSource::open(file, None, Some(ImageFormat::Raw), BackingPolicy::Refuse)?;
    let staged = store.import(&image, label(LayerKind::Image, "m-1"), &())?;
    let origin = staged.layer();
    staged.publish()?;

    // A disk of 1 GiB on it, ruined.
    let id: DiskId = "d-1".parse()?;
    store.create_disk(&id, ByteLength::new(1 << 30), Some(origin))?.publish()?;
    let disk = store.open_disk(&id)?;
    disk.write_at(&[0xbd; 65536], ByteOffset::ZERO, Durability::ForceUnitAccess)?;

    // The ruin is kept as a snapshot, and the disk goes back to its image.
    let commit = |_layer| Ok::<_, CommitError<std::io::Error>>(());
    let ruin = store.snapshot(&id, label(LayerKind::Snapshot, "s-1"), commit)?;
    let request_id = RequestId::from_bytes([1; 16]);
    let reset = Reset { disk: id.clone(), base: Some(origin), request_id, time: SystemTime::now() };
    let receipt = store.reset(&[reset]).remove(0)?;

    let mut first = [0; 512];
    store.open_disk(&id)?.read_at(&mut first, ByteOffset::ZERO)?;
    assert_eq!(first, [7; 512]);
    println!("epoch {}, back on {origin}, the ruin is {ruin:?}", receipt.epoch_after);
    Ok(())
}

fn label(kind: LayerKind, id: &str) -> LayerLabel {
    LayerLabel { kind, id: id.into(), account: "default".into(), name: "example".into() }
}
