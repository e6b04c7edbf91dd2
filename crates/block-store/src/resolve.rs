//! Where the bytes of a disk are: which layer holds which stretch.
//!
//! What must always hold: the pieces are in order, cover the range without gaps, and neighbours
//! differ in owner; a block belongs to the uppermost layer that says something about it.
//! Left to others: reading them.

use std::ops::Range;

use block_device::{BLOCK, CLUSTER};

use crate::{
    error::StoreError,
    geometry::{ClusterIndex, bytes, clusters_of, index},
    head::Head,
    id::EpochTag,
    owner_file::{self, Row},
    owner_table::Holders,
    sealed_layer::Chain,
    word::Blocks,
};

/// Who holds a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody ever stored anything: zeros.
    Hole,
    /// Some layer says that it reads as zeros.
    Zero,
    /// The head.
    Head,
    /// The layer at this place of the chain, 0 being the uppermost.
    Layer(usize),
}

/// A stretch of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) owner: Owner,
    pub(crate) range: Range<u64>,
}

/// The stack that is looked through, from above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack<'d> {
    pub(crate) head: Option<(&'d Head, EpochTag)>,
    pub(crate) base: Option<&'d Chain>,
}

impl Stack<'_> {
    /// Tells the pieces of `range` one by one, until `each` answers false.
    pub(crate) fn pieces<E: From<StoreError>>(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Piece) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut open: Option<Piece> = None;
        for cluster in clusters_of(&range) {
            let owners = self.owners(cluster, cluster.blocks_touched(&range))?;
            for next in owners.pieces(cluster, &range) {
                match &mut open {
                    Some(piece) if piece.owner == next.owner => piece.range.end = next.range.end,
                    _ => {
                        if let Some(done) = open.replace(next)
                            && !each(done)?
                        {
                            return Ok(());
                        }
                    }
                }
            }
        }
        open.map_or(Ok(true), each).map(drop)
    }

    /// Who owns the wanted blocks of a cluster.
    fn owners(&self, cluster: ClusterIndex, wanted: u16) -> Result<Owners, StoreError> {
        let mut owners = Owners { of: [Owner::Hole; 16], wanted };
        let mut left = wanted;
        if let Some((head, epoch)) = self.head {
            let said = head.map().word(cluster)?.at(epoch);
            left = owners.assign(left, said.data, Owner::Head);
            left = owners.assign(left, said.zero, Owner::Zero);
        }
        if let Some(chain) = self.base {
            owners.look_through(chain, cluster, left)?;
        }
        Ok(owners)
    }
}

/// Who owns the blocks of one cluster.
struct Owners {
    of: [Owner; 16],
    wanted: u16,
}

impl Owners {
    /// Gives the blocks that are left and said to the owner; answers what is left then.
    fn assign(&mut self, left: u16, said: u16, owner: Owner) -> u16 {
        let mut mine = left & said;
        while mine != 0 {
            self.of[index(u64::from(mine.trailing_zeros()))] = owner;
            mine &= mine - 1;
        }
        left & !said
    }

    /// Gives the blocks that are left to the layers of the chain: from above, down to the first
    /// layer with an owner table, which knows the rest.
    fn look_through(
        &mut self,
        chain: &Chain,
        cluster: ClusterIndex,
        mut left: u16,
    ) -> Result<(), StoreError> {
        for place in 0..chain.layers().len() {
            if left == 0 {
                break;
            }
            if let Some(holders) = chain.holders(place, cluster) {
                if self.ask_holders(chain, &holders, cluster, left)? {
                    break;
                }
                chain.distrust_table(place);
                self.forget(left);
            }
            left &= !self.ask(chain, place, cluster, left)?.known();
        }
        Ok(())
    }

    /// Gives the blocks that are left to who holds them by a table; answers false if one of them
    /// does not hold what it should.
    fn ask_holders(
        &mut self,
        chain: &Chain,
        holders: &Holders,
        cluster: ClusterIndex,
        left: u16,
    ) -> Result<bool, StoreError> {
        match holders {
            Holders::One(0) => Ok(true),
            Holders::One(speaker) => {
                let said = self.ask(chain, chain.place(*speaker), cluster, left)?;
                Ok(said.known() != 0)
            }
            Holders::Each(row) => self.ask_each(chain, row, cluster, left),
        }
    }

    fn ask_each(
        &mut self,
        chain: &Chain,
        row: &Row,
        cluster: ClusterIndex,
        mut left: u16,
    ) -> Result<bool, StoreError> {
        while left != 0 {
            let speaker = row[index(u64::from(left.trailing_zeros()))];
            let mine = left & owner_file::blocks_of(row, speaker);
            if speaker != 0 {
                let said = self.ask(chain, chain.place(speaker), cluster, mine)?;
                if mine & !said.known() != 0 {
                    return Ok(false);
                }
            }
            left &= !mine;
        }
        Ok(true)
    }

    /// Gives those of the blocks that the layer at this place holds to it; answers what it says.
    fn ask(
        &mut self,
        chain: &Chain,
        place: usize,
        cluster: ClusterIndex,
        blocks: u16,
    ) -> Result<Blocks, StoreError> {
        let said = chain.layers()[place].said(cluster)?;
        let left = self.assign(blocks, said.data, Owner::Layer(place));
        self.assign(left, said.zero, Owner::Zero);
        Ok(said)
    }

    /// Takes the blocks back from whoever got them.
    fn forget(&mut self, blocks: u16) {
        for (block, owner) in self.of.iter_mut().enumerate() {
            if blocks & (1 << block) != 0 {
                *owner = Owner::Hole;
            }
        }
    }

    /// The runs of blocks of one owner, cut to the range.
    fn pieces(&self, cluster: ClusterIndex, range: &Range<u64>) -> impl Iterator<Item = Piece> {
        let first = index(u64::from(self.wanted.trailing_zeros())).min(16);
        let end = index(u64::from(16 - self.wanted.leading_zeros())).max(first);
        let bounds = range.start.max(cluster.start())..range.end.min(cluster.start() + CLUSTER);
        let block_start = move |block: usize| cluster.start() + BLOCK * bytes(block);
        let mut block = first;
        self.of[first..end].chunk_by(|a, b| a == b).map(move |run| {
            let start = block_start(block).max(bounds.start);
            block += run.len();
            Piece { owner: run[0], range: start..block_start(block).min(bounds.end) }
        })
    }
}
