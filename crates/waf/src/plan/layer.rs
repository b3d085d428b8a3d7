//! Groups that see what smaller groups see, and more: what is known of those is not found out
//! again.

use super::{Group, View};
use crate::variable::{COUNT, Variable};

/// A set of variables, a bit each.
pub(crate) type Variables = u128;

const _: () = assert!(COUNT <= Variables::BITS as usize);

/// The set of one variable.
pub(crate) const fn only(variable: Variable) -> Variables {
    1 << variable as u32
}

/// Some views of a group, and the group that sees what all layers behind this one see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Numbers of views.
    pub(crate) views: Vec<usize>,
    /// A group without a chain.
    pub(crate) rest: Option<u32>,
}

/// The layers of each group: those of its base, whose views stand in the same order.
pub(super) fn layers(groups: &[Group]) -> Vec<Vec<Layer>> {
    groups
        .iter()
        .map(|group| groups.get(group.base as usize).map(|base| of(base, groups)).unwrap_or_default())
        .collect()
}

fn of(base: &Group, groups: &[Group]) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut left: Vec<(usize, &View)> = base.views.iter().enumerate().collect();
    loop {
        let holds = |view: &View| left.iter().any(|(_, other)| other.cell == view.cell);
        let within = |(number, group): &(u32, &Group)| {
            group.base == *number
                && group.side == base.side
                && (2..left.len()).contains(&group.views.len())
                && group.views.iter().all(holds)
        };
        let smaller = (0..)
            .zip(groups)
            .filter(within)
            .max_by_key(|(number, group)| (group.views.len(), u32::MAX - number));
        let Some((number, smaller)) = smaller else { break };
        let is_its = |view: &View| smaller.views.iter().any(|other| other.cell == view.cell);
        let (rest, own): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, view)| is_its(view));
        layers.push(Layer { views: own.into_iter().map(|(at, _)| at).collect(), rest: Some(number) });
        left = rest;
    }
    layers.push(Layer { views: left.into_iter().map(|(at, _)| at).collect(), rest: None });
    layers
}

#[cfg(test)]
mod tests {
    use super::{super::Side, *};

    fn group(base: u32, cells: &[u32]) -> Group {
        let view = |cell: &u32| View {
            named: Variable::Args,
            cell: *cell,
            base: *cell,
            variable: Variable::Args,
            may_change: 0,
        };
        Group {
            targets: Vec::new(),
            chain: 0,
            stages: false,
            side: Side::Request,
            base,
            may_change: 0,
            views: cells.iter().map(view).collect(),
            layers: Vec::new(),
            variables: 0,
        }
    }

    #[test]
    fn a_group_is_laid_over_the_largest_that_sees_less() {
        let all = [
            group(0, &[5, 1, 2, 3, 4]),
            group(1, &[2, 1]),
            group(2, &[4, 2, 1]),
            // One of a chain has the layers of its base and is under none.
            group(0, &[15, 11, 12, 13, 14]),
            group(4, &[1]),
            group(5, &[1, 9]),
        ];
        let layer = |views: &[usize], rest| Layer { views: views.to_vec(), rest };
        let found = layers(&all);
        let wanted = [layer(&[0, 3], Some(2)), layer(&[4], Some(1)), layer(&[1, 2], None)];
        assert_eq!((&found[0][..], &found[3][..]), (&wanted[..], &wanted[..]));
        assert_eq!(found[1], [layer(&[0, 1], None)]);
        assert_eq!(found[2], [layer(&[0], Some(1)), layer(&[1, 2], None)]);
        assert_eq!((found[4].len(), found[5].len()), (1, 1));
    }
}
