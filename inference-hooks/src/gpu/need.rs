//! What one file asks of a dispatch, and which files are to share one.

use super::GpuError;
use crate::hook::{Hook, Shape};

/// A dispatch for several files is as large for each of them as for the one that asks for most. So many times what they ask for together
/// it may be: then most of what runs has something to do, where one large picture among 63 small ones would have the other groups of 64
/// pictures of its size find that they are beyond theirs.
const WASTE_MAX: u64 = 2;

/// What a file asks for when it is alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Need {
    /// Elements of each buffer.
    pub(super) lens: Vec<u32>,
    /// Groups of each pass, across and down.
    pub(super) groups: Vec<[u32; 2]>,
}

impl Need {
    pub(super) fn of(hook: &Hook, shape: Shape, out_size: [u32; 2]) -> Result<Self, GpuError> {
        let values = hook.pass_values(shape, out_size.map(|side| side.max(1)));
        let mut need = Self::default();
        for buffer in hook.buffers() {
            let problem = |error| GpuError::Broken(format!("buffers.{}.len {error}", buffer.name));
            need.lens.push(buffer.len.count(&values).map_err(problem)?);
        }
        for (index, pass) in hook.passes().iter().enumerate() {
            let count = |axis: usize| {
                pass.dispatch[axis].count(&values).map_err(|error| {
                    GpuError::Broken(format!("pass[{index}].dispatch[{axis}] {error}"))
                })
            };
            need.groups.push([count(0)?, count(1)?]);
        }
        Ok(need)
    }

    /// The larger in each respect. It is what two files need that share a dispatch: an expression may ask for more for the smaller one.
    pub(super) fn or(mut self, other: &Self) -> Self {
        if self.groups.is_empty() {
            return other.clone();
        }
        for (len, other) in self.lens.iter_mut().zip(&other.lens) {
            *len = (*len).max(*other);
        }
        for ([x, y], other) in self.groups.iter_mut().zip(&other.groups) {
            (*x, *y) = ((*x).max(other[0]), (*y).max(other[1]));
        }
        self
    }

    /// Groups of all passes, and elements of all buffers.
    fn sums(&self) -> [u64; 2] {
        let groups = self.groups.iter().map(|[x, y]| u64::from(*x).saturating_mul(u64::from(*y)));
        let groups = groups.fold(0, u64::saturating_add);
        [groups, self.lens.iter().copied().map(u64::from).sum()]
    }
}

/// The numbers of the files that are to share a dispatch, in lists: of a size, as far as [`WASTE_MAX`] tells. A file whose size makes no
/// sense to the hook is alone, and gets its error so.
pub(crate) fn alike(hook: &Hook, shapes: impl Iterator<Item = Shape>) -> Vec<Vec<usize>> {
    let need = |shape| Need::of(hook, shape, hook.output_size(shape).ok()?).ok();
    together(&shapes.map(need).collect::<Vec<_>>())
}

fn together(needs: &[Option<Need>]) -> Vec<Vec<usize>> {
    let (mut known, mut lists): (Vec<(usize, &Need)>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
    for (number, need) in needs.iter().enumerate() {
        match need {
            Some(need) => known.push((number, need)),
            None => lists.push(vec![number]),
        }
    }
    // Neighbours are of a size; those that are of one stay in order.
    known.sort_by_key(|(_, need)| std::cmp::Reverse(need.sums()));
    let (mut list, mut largest, mut asked) = (Vec::new(), Need::default(), [0_u64; 2]);
    for (number, need) in known {
        let with = largest.clone().or(need);
        let sums = need.sums();
        let files = list.len() as u64 + 1;
        let asked_with = [0, 1].map(|of| asked[of].saturating_add(sums[of]));
        let is_like = |of: usize| {
            with.sums()[of].saturating_mul(files) <= asked_with[of].saturating_mul(WASTE_MAX)
        };
        if list.is_empty() || [0, 1].into_iter().all(is_like) {
            (largest, asked) = (with, asked_with);
        } else {
            lists.push(std::mem::take(&mut list));
            (largest, asked) = (need.clone(), sums);
        }
        list.push(number);
    }
    lists.extend(Some(list).filter(|list| !list.is_empty()));
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(x: u32, y: u32, len: u32) -> Option<Need> {
        Some(Need { lens: vec![len], groups: vec![[x, y], [1, 1]] })
    }

    #[test]
    fn files_of_a_size_share_a_dispatch_in_order() {
        let needs: Vec<_> = (0..64).map(|_| need(8, 6, 48)).collect();
        assert_eq!(together(&needs), [Vec::from_iter(0..64)]);
        assert!(together(&[]).is_empty());
    }

    #[test]
    fn one_large_file_does_not_make_a_large_dispatch_for_all() {
        let mut needs: Vec<_> = (0..63).map(|_| need(1, 1, 64)).collect();
        needs.insert(5, need(128, 128, 1 << 20));
        let lists = together(&needs);
        // One more would have asked for 3 of its size where 1 and a little is needed.
        assert_eq!(lists, [vec![5, 0], (1..64).filter(|number| *number != 5).collect()]);
    }

    #[test]
    fn a_wide_and_a_high_picture_are_not_of_a_size() {
        assert_eq!(together(&[need(1, 900, 1), need(900, 1, 1)]).len(), 2);
    }

    #[test]
    fn buffers_count_as_groups_do() {
        assert_eq!(together(&[need(1, 1, 1 << 20), need(1, 1, 1), need(1, 1, 1)]).len(), 2);
        let none = |_| Some(Need { lens: Vec::new(), groups: vec![[1, 1]] });
        assert_eq!(together(&[(); 9].map(none)).len(), 1);
    }

    #[test]
    fn what_no_dispatch_can_be_made_for_is_alone() {
        let needs = [need(1, 1, 1), None, need(1, 1, 1)];
        assert_eq!(together(&needs), [vec![1], vec![0, 2]]);
    }

    #[test]
    fn every_file_is_in_one_list_and_no_list_is_mostly_idle() {
        let size = |at: u32| 1 + (at.wrapping_mul(2_654_435_761) >> 22);
        let needs: Vec<_> = (0..64).map(|at| need(size(at), size(at + 64), size(at))).collect();
        let lists = together(&needs);
        let mut all = lists.concat();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..64));
        for list in lists {
            let needs: Vec<_> = list.iter().map(|at| needs[*at].as_ref().unwrap()).collect();
            let most = needs.iter().fold(Need::default(), |most, need| most.or(need)).sums();
            for of in [0, 1] {
                let asked: u64 = needs.iter().map(|need| need.sums()[of]).sum();
                assert!(most[of] * needs.len() as u64 <= asked * WASTE_MAX, "{list:?}");
            }
        }
    }
}
