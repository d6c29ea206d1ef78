//! The time axis: busy stretches to scale, long idle ones cut out, so that a span of a millisecond
//! stays visible beside a queue that held its message for an hour.

use super::model::Nanos;

/// All cuts together take no more than this.
const CUTS_WIDTH_MAX: f64 = 0.4;
/// The share that a busy stretch gets at least, as far as there is room.
const BUSY_WIDTH_MIN: f64 = 0.035;

/// Maps moments to places between 0 (left) and 1 (right).
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pieces: Vec<Piece>,
}

/// A stretch of the axis with one scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// First moment.
    pub from: Nanos,
    /// Last moment.
    pub to: Nanos,
    /// Place of the first moment.
    pub left: f64,
    /// Place of the last moment.
    pub right: f64,
    /// Whether this is an idle stretch that is shown shorter than it was.
    pub cut: bool,
}

impl Axis {
    /// An axis for these stretches of time, in any order; what lies between them is idle.
    /// A cut takes `cut_width` of the whole width, as far as there is room.
    pub fn of(stretches: impl IntoIterator<Item = (Nanos, Nanos)>, cut_width: f64) -> Self {
        let busy = merge(stretches);
        let (Some(first), Some(last)) = (busy.first(), busy.last()) else {
            return Self { pieces: Vec::new() };
        };
        let total: Nanos = busy.iter().map(|(from, to)| to - from).sum();
        let span = last.1 - first.0;
        // An idle stretch is cut when it would take more room than half of all that happened.
        let long = |gap: Nanos| gap > total / 2 && gap > span / 50;
        let mut stretches: Vec<(Nanos, Nanos, bool)> = Vec::new();
        for (from, to) in busy {
            match stretches.last_mut() {
                Some((_, end, _)) if long(from - *end) => {
                    let gap = (*end, from, true);
                    stretches.extend([gap, (from, to, false)]);
                }
                Some((_, end, _)) => *end = to,
                None => stretches.push((from, to, false)),
            }
        }
        Self {
            pieces: place(&stretches, cut_width),
        }
    }

    /// The stretches from left to right.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where a moment is; moments outside are at the nearer end.
    pub fn at(&self, moment: Nanos) -> f64 {
        let Some(piece) = self.pieces.iter().find(|piece| moment <= piece.to) else {
            return if self.pieces.is_empty() { 0.0 } else { 1.0 };
        };
        if moment <= piece.from || piece.to == piece.from {
            return piece.left;
        }
        let share = (moment - piece.from) as f64 / (piece.to - piece.from) as f64;
        piece.left + share * (piece.right - piece.left)
    }

    /// The first moment.
    pub fn start(&self) -> Nanos {
        self.pieces.first().map_or(0, |piece| piece.from)
    }

    /// The time between the first and the last moment.
    pub fn nanos(&self) -> Nanos {
        self.pieces
            .last()
            .map_or(0, |piece| piece.to.saturating_sub(self.start()))
    }
}

/// Sorted, turned around where they run backwards, joined where they touch.
pub(super) fn merge(stretches: impl IntoIterator<Item = (Nanos, Nanos)>) -> Vec<(Nanos, Nanos)> {
    // A hundred years each way: sums of differences cannot overflow.
    let sane = |nanos: Nanos| nanos.clamp(-3_200_000_000_000_000_000, 3_200_000_000_000_000_000);
    let mut sorted: Vec<_> = stretches
        .into_iter()
        .map(|(a, b)| (sane(a.min(b)), sane(a.max(b))))
        .collect();
    sorted.sort_unstable();
    let mut merged: Vec<(Nanos, Nanos)> = Vec::new();
    for (from, to) in sorted {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn place(stretches: &[(Nanos, Nanos, bool)], cut_width: f64) -> Vec<Piece> {
    let cuts = stretches.iter().filter(|(.., cut)| *cut).count();
    let cut_width = if cuts == 0 {
        0.0
    } else {
        cut_width.min(CUTS_WIDTH_MAX / cuts as f64)
    };
    let busy_width = 1.0 - cut_width * cuts as f64;
    let busy_count = (stretches.len() - cuts) as f64;
    let floor = BUSY_WIDTH_MIN.min(busy_width / busy_count / 2.0);
    let total: f64 = stretches
        .iter()
        .filter(|(.., cut)| !cut)
        .map(|(from, to, _)| (to - from) as f64)
        .sum();
    // Everybody gets the floor; what is left is given out by length, so the widths add up to 1.
    let left_over = busy_width - floor * busy_count;
    let mut left = 0.0;
    stretches
        .iter()
        .map(|&(from, to, cut)| {
            let width = match (cut, total > 0.0) {
                (true, _) => cut_width,
                (false, true) => floor + left_over * (to - from) as f64 / total,
                (false, false) => busy_width / busy_count,
            };
            let piece = Piece {
                from,
                to,
                left,
                right: left + width,
                cut,
            };
            left += width;
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn short_stretches_stay_visible_beside_a_long_wait() {
        let axis = Axis::of([(0, 20 * MS), (3_600_000 * MS, 3_600_001 * MS)], 0.06);
        let cut: Vec<_> = axis.pieces().iter().map(|piece| piece.cut).collect();
        assert_eq!(cut, [false, true, false]);
        let last = axis.pieces()[2];
        assert!(last.right - last.left >= BUSY_WIDTH_MIN, "{last:?}");
        assert!((last.right - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_gap_about_as_long_as_the_work_is_not_cut() {
        let axis = Axis::of([(0, 10 * MS), (19 * MS, 30 * MS)], 0.06);
        assert_eq!(axis.pieces().len(), 1);
        assert!((axis.at(15 * MS) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn places_never_run_backwards() {
        let axis = Axis::of(
            (0..40).map(|n| (n * n * n * MS, n * n * n * MS + (n % 5) * MS)),
            0.06,
        );
        let mut before = 0.0;
        for moment in (-5..70_000).map(|n| n * MS) {
            let place = axis.at(moment);
            assert!(
                (0.0..=1.0 + 1e-9).contains(&place) && place >= before - 1e-9,
                "{moment} {place}"
            );
            before = place;
        }
    }

    #[test]
    fn odd_input_gives_an_axis_all_the_same() {
        assert_eq!(Axis::of([], 0.06).at(5), 0.0);
        assert_eq!(Axis::of([(5, 5)], 0.06).at(5), 0.0);
        let whole = Axis::of([(Nanos::MIN, Nanos::MAX)], 0.06);
        assert!((0.0..=1.0).contains(&whole.at(0)));
        let turned = Axis::of([(10, 0)], 0.06);
        assert_eq!((turned.start(), turned.nanos()), (0, 10));
    }
}
