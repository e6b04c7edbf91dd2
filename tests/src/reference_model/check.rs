//! Looking at a store that was just opened, and comparing all of it with what must be found.
//!
//! What must always hold: everything is read; the first thing wrong is told with its place.

use std::{collections::BTreeMap, sync::Arc};

use block_device::{BlockDevice, ByteOffset, DiskId};
use block_store::Store;

use super::{
    DiskState, Expectation, Sector,
    stamp::{SECTOR, Stamp, stamp_of},
};

/// The disks that were found.
pub type Observed = BTreeMap<DiskId, DiskState>;

/// Settles a store and looks at all of it.
pub fn check(store: &Store, expected: &Expectation) -> Result<Observed, String> {
    let settled = store.settle(&expected.named()).map_err(|error| format!("settle: {error:?}"))?;
    if !settled.missing_disks.is_empty() || !settled.orphan_disks.is_empty() {
        return Err(format!(
            "missing disks {:?}, disks nobody made {:?}",
            settled.missing_disks, settled.orphan_disks
        ));
    }
    let observed = check_served(store, expected)?;
    // Disks that stood on a sealed head have moved on now; what is left over would stay for ever.
    store.wait_for_background();
    if settled.orphan_layers.is_empty() || expected.may_leak {
        Ok(observed)
    } else {
        Err(format!("leak: layers nobody needs and nobody removes: {:?}", settled.orphan_layers))
    }
}

/// Looks at all of a settled store.
pub fn check_served(store: &Store, expected: &Expectation) -> Result<Observed, String> {
    for (layer, content) in &expected.layers {
        let found = store
            .open_layer(*layer)
            .map_err(|error| format!("layer {layer}: {error:?}"))
            .and_then(|reader| {
            read_stamps(&*reader).map_err(|error| format!("{layer}: {error}"))
        })?;
        if let Some(place) = (0..found.len().max(content.len()))
            .find(|place| found.get(*place) != content.get(*place))
        {
            let (found, wanted) = (found.get(place), content.get(place));
            return Err(format!("layer {layer} sector {place}: {found:?}, not {wanted:?}"));
        }
    }
    let mut observed = Observed::new();
    for (disk, states) in &expected.disks {
        let found = check_disk(store, disk, states).map_err(|error| format!("{disk}: {error}"))?;
        observed.insert(disk.clone(), found);
    }
    let disks = store.disks();
    match disks.iter().find(|disk| !expected.disks.contains_key(disk)) {
        None => Ok(observed),
        Some(disk) => Err(format!("there is a disk {disk} that must not be")),
    }
}

fn check_disk(
    store: &Store,
    disk: &DiskId,
    states: &[Arc<DiskState>],
) -> Result<DiskState, String> {
    let info = store.disk(disk).map_err(|error| format!("{error:?}"))?;
    let epoch = info.epoch.get();
    let request = info.last_reset.map(|receipt| receipt.request_id.to_bytes());
    let handle = store.open_disk(disk).map_err(|error| format!("opening: {error:?}"))?;
    let stamps = read_stamps(&*handle)?;
    let fits = |state: &&Arc<DiskState>| {
        state.epoch == epoch && state.request == request && state.sectors.len() == stamps.len()
    };
    let Some(state) = states.iter().find(fits) else {
        return Err(format!(
            "epoch {epoch} after request {request:?} with {} sectors is none of {:?}",
            stamps.len(),
            states.iter().map(|s| (s.epoch, s.request, s.sectors.len())).collect::<Vec<_>>()
        ));
    };
    for (place, (stamp, sector)) in stamps.iter().zip(&state.sectors).enumerate() {
        if !sector.allows(*stamp) {
            return Err(format!("epoch {epoch} sector {place}: {stamp}, not one of {sector:?}"));
        }
    }
    let sectors = stamps.into_iter().map(Sector::holding).collect();
    Ok(DiskState { epoch, request, sectors })
}

/// Reads all of a device.
pub fn read_stamps(device: &dyn BlockDevice) -> Result<Vec<Stamp>, String> {
    let length = usize::try_from(device.size().get()).expect("small disks");
    let mut bytes = vec![0; length];
    device.read_at(&mut bytes, ByteOffset::ZERO).map_err(|error| format!("reading: {error:?}"))?;
    bytes
        .chunks(SECTOR)
        .enumerate()
        .map(|(place, sector)| stamp_of(sector).ok_or(format!("sector {place} is a mixture")))
        .collect()
}
