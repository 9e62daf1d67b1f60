//! What pairs of values say about two servers.

use serde::Serialize;

/// A figure of two servers, from runs in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median of the first server.
    pub first: f64,
    /// Median of the second server.
    pub second: f64,
    /// Median of first over second within each pair: what the whole machine did to both runs of
    /// a pair cancels out. `None` where the second is zero and the first is not.
    pub ratio: Option<f64>,
    /// The least of these.
    pub least: Option<f64>,
    /// The most.
    pub most: Option<f64>,
    /// How many pairs there are.
    pub pairs: usize,
}

impl Ratio {
    /// What these pairs say; `None` without any.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let first = median(pairs.iter().map(|(first, _)| *first))?;
        let second = median(pairs.iter().map(|(_, second)| *second))?;
        let ratios: Option<Vec<f64>> =
            pairs.iter().map(|(first, second)| over(*first, *second)).collect();
        let ratios = ratios.unwrap_or_default();
        Some(Self {
            first,
            second,
            ratio: median(ratios.iter().copied()),
            least: ratios.iter().copied().min_by(f64::total_cmp),
            most: ratios.iter().copied().max_by(f64::total_cmp),
            pairs: pairs.len(),
        })
    }
}

/// `first` over `second`; two zeros are equal.
fn over(first: f64, second: f64) -> Option<f64> {
    if second != 0.0 { Some(first / second) } else { (first == 0.0).then_some(1.0) }
}

/// The value in the middle, or the mean of the two there.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([7.0].into_iter()), Some(7.0));
        assert_eq!(median([].into_iter()), None);
    }

    /// A machine that slows down by half between pairs changes the medians, not the ratio.
    #[test]
    fn what_hits_both_runs_of_a_pair_cancels_out() {
        let ratio = Ratio::of(&[(1.0, 4.0), (2.0, 8.0), (4.0, 16.0)]).unwrap();
        assert_eq!((ratio.first, ratio.second, ratio.pairs), (2.0, 8.0, 3));
        assert_eq!((ratio.ratio, ratio.least, ratio.most), (Some(0.25), Some(0.25), Some(0.25)));
    }

    #[test]
    fn the_spread_is_that_of_the_pairs() {
        let ratio = Ratio::of(&[(1.0, 2.0), (3.0, 2.0), (2.0, 2.0)]).unwrap();
        assert_eq!((ratio.ratio, ratio.least, ratio.most), (Some(1.0), Some(0.5), Some(1.5)));
    }

    #[test]
    fn nothing_lost_by_either_is_equal_and_by_one_has_no_ratio() {
        assert_eq!(Ratio::of(&[(0.0, 0.0)]).unwrap().ratio, Some(1.0));
        let ratio = Ratio::of(&[(0.0, 0.0), (1.0, 0.0)]).unwrap();
        assert_eq!((ratio.ratio, ratio.least), (None, None));
        assert_eq!(Ratio::of(&[]), None);
    }
}
