//! What the device holds, not what the cache does.
//!
//! What must always hold: a cluster is read twice before anything is said against it; the cache is left
//! as small as it was.
//! Left to others: what the clusters should hold (`run`).

use std::ops::Range;

use block_device::{CLUSTER, DeviceError};

use super::report::ScrubFindingKind;
use crate::{
    geometry::{ClusterIndex, bytes, index},
    resolve::{Owner, Stack},
    root::{self, ClusterHash},
    sealed_layer::Chain,
};

/// What is wrong with a cluster that did not read right: it must fail twice.
pub(super) fn look_again(
    chain: &Chain,
    cluster: u64,
    hash: &ClusterHash,
) -> Option<ScrubFindingKind> {
    let start = ClusterIndex(cluster).start();
    let mut content = vec![0; index((chain.size() - start).min(CLUSTER))];
    match read_from_device(chain, &mut content, start) {
        Ok(()) if root::hash_cluster(&content) == *hash => {
            let layer = chain.layer();
            tracing::warn!(%layer, offset = start, "a cluster read right only the second time");
            None
        }
        Ok(()) => Some(ScrubFindingKind::Content),
        Err(error) => {
            let layer = chain.layer();
            tracing::error!(%layer, offset = start, %error, "a cluster cannot be read");
            Some(ScrubFindingKind::Unreadable)
        }
    }
}

/// Reads what the chain holds, known damage or not, past the cache.
pub(super) fn read_from_device(
    chain: &Chain,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), DeviceError> {
    let end = offset + bytes(buffer.len());
    let stack = Stack { head: None, base: Some(chain) };
    stack.pieces(offset..end, |piece| {
        let Range { start, end } = piece.range;
        let part = &mut buffer[index(start - offset)..index(end - offset)];
        match piece.owner {
            Owner::Layer(place) => {
                let layer = &chain.layers()[place];
                layer.drop_cached_data(&piece.range)?;
                layer.read_data(part, start)?;
                layer.drop_cached_data(&piece.range)?;
            }
            Owner::Head | Owner::Zero | Owner::Hole => part.fill(0),
        }
        Ok::<_, DeviceError>(true)
    })
}
