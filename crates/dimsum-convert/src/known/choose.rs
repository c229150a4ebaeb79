//! Chooses the packs of other images that are worth a reference (`docs/format.md`, section 7.2).
//!
//! Each foreign pack is one more layer that a registry lists and a node keeps sources for. So at least one
//! layer must use a quarter of its blocks. Content that stands in several packs is taken from as few of them as
//! possible.

use super::packs::PackRow;

/// A foreign pack is referenced only if a layer uses a quarter of its blocks. Below that, most bytes of the pack would
/// be useless to the image, but its registry and its copies must keep them.
const MIN_USE: u64 = 4;
/// Foreign packs of an image: the 128 of an image must leave room for its own.
pub(crate) const MAX_FOREIGN: usize = 16;

/// A piece of content that some packs have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedRow {
    /// Blocks of it.
    pub(crate) blocks: u32,
    /// Where it is, at most once per pack, in the order of the packs.
    pub(crate) rows: Vec<PackRow>,
}

/// Chooses for each piece the row to refer to, or none. `accepted` are the packs that the layers below use; the
/// packs that this layer adds are put behind them. `blocks` are the blocks of all packs.
pub(crate) fn choose(
    wanted: &[WantedRow],
    blocks: &[u32],
    accepted: &mut Vec<u16>,
    limit: usize,
) -> Vec<Option<PackRow>> {
    let in_pack = |wanted: &WantedRow, pack: u16| wanted.rows.iter().copied().find(|row| row.pack == pack);
    let first_of = |wanted: &WantedRow, packs: &[u16]| packs.iter().find_map(|&pack| in_pack(wanted, pack));
    let mut chosen: Vec<Option<PackRow>> = wanted.iter().map(|wanted| first_of(wanted, accepted)).collect();
    while accepted.len() < limit.min(MAX_FOREIGN) {
        let mut used = vec![0u64; blocks.len()];
        for (wanted, chosen) in wanted.iter().zip(&chosen) {
            for row in wanted.rows.iter().filter(|_| chosen.is_none()) {
                if let Some(used) = used.get_mut(usize::from(row.pack)) {
                    *used += u64::from(wanted.blocks);
                }
            }
        }
        let enough = |pack: usize, used: u64| {
            used > 0 && used.saturating_mul(MIN_USE) >= u64::from(blocks.get(pack).copied().unwrap_or(u32::MAX))
        };
        // The most used one; of equal ones the first.
        let best = used.iter().copied().enumerate().filter(|&(pack, used)| enough(pack, used));
        let best = best.max_by_key(|&(pack, used)| (used, std::cmp::Reverse(pack)));
        let Some(pack) = best.and_then(|(pack, _)| u16::try_from(pack).ok()) else { break };
        accepted.push(pack);
        for (wanted, chosen) in wanted.iter().zip(&mut chosen).filter(|(_, chosen)| chosen.is_none()) {
            *chosen = in_pack(wanted, pack);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(blocks: u32, packs: &[u16]) -> WantedRow {
        WantedRow { blocks, rows: packs.iter().map(|&pack| PackRow { pack, row: u32::from(pack) * 100 }).collect() }
    }

    fn packs(chosen: &[Option<PackRow>]) -> Vec<Option<u16>> {
        chosen.iter().map(|row| row.map(|row| row.pack)).collect()
    }

    #[test]
    fn a_pack_of_which_little_is_used_is_not_referenced() {
        let pieces = [wanted(24, &[0]), wanted(25, &[1])];
        let mut accepted = Vec::new();
        assert_eq!(packs(&choose(&pieces, &[100, 100], &mut accepted, 9)), [None, Some(1)]);
        assert_eq!(accepted, [1]);
    }

    #[test]
    fn pieces_come_from_as_few_packs_as_possible() {
        let pieces = [wanted(10, &[0, 2]), wanted(10, &[1, 2]), wanted(10, &[2]), wanted(1, &[0])];
        let mut accepted = Vec::new();
        assert_eq!(packs(&choose(&pieces, &[12, 12, 40], &mut accepted, 9)), [Some(2), Some(2), Some(2), None]);
        assert_eq!(accepted, [2]);
    }

    #[test]
    fn what_a_lower_layer_uses_is_used_first_however_little_it_is() {
        let mut accepted = vec![1];
        assert_eq!(packs(&choose(&[wanted(1, &[0, 1])], &[1, 1000], &mut accepted, 9)), [Some(1)]);
    }

    #[test]
    fn equal_packs_are_taken_in_their_order_and_no_more_than_allowed() {
        let pieces: Vec<_> = (0..40).map(|pack| wanted(5, &[pack])).collect();
        let mut accepted = Vec::new();
        let chosen = choose(&pieces, &[10; 40], &mut accepted, 100);
        assert_eq!(accepted, (0..16).collect::<Vec<u16>>());
        assert_eq!(chosen.iter().flatten().count(), MAX_FOREIGN);
        let mut accepted = vec![3];
        choose(&pieces, &[10; 40], &mut accepted, 2);
        assert_eq!(accepted, [3, 0]);
    }
}
