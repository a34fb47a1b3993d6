//! Grain: the noise of film, taken off what a network is to see, so that it does not become colour.
//!
//! How strong it is, is measured on the picture itself, so that a clean one stays as it is.

/// `l` `[height, width]` without its grain, in any unit: Lee's filter (1980, "Digital image enhancement and noise
/// filtering by use of local statistics") over 3 x 3 samples. What varies no more than the grain becomes its mean; what
/// varies much more stays.
pub fn removed(l: &[f32], (height, width): (usize, usize)) -> Vec<f32> {
    let grain = strength(l, (height, width)).powi(2);
    if grain == 0. {
        return l.to_vec();
    }
    let mean = boxed(l, (height, width));
    let apart: Vec<f32> = l
        .iter()
        .zip(&mean)
        .map(|(l, m)| (l - m) * (l - m))
        .collect();
    let variance = boxed(&apart, (height, width));
    let statistics = mean.iter().zip(&variance);
    let sample = |(l, (mean, variance)): (&f32, (&f32, &f32))| {
        let kept = (variance - grain).max(0.) / variance.max(grain);
        mean + kept * (l - mean)
    };
    l.iter().zip(statistics).map(sample).collect()
}

/// Standard deviation of the grain, by Immerkaer's mask (1996, "Fast noise variance estimation"), which lets no plane
/// and no straight step along an axis through. Its quartile is taken, not its mean: where the picture is flat there is
/// nothing else, and texture is not taken for grain.
fn strength(l: &[f32], (height, width): (usize, usize)) -> f32 {
    /// Quartile of the absolute value of a normal number of deviation 1.
    const QUARTILE: f32 = 0.318_639;
    /// Deviation that the mask makes of 1: the root of the sum of its squares.
    const MASK: f32 = 6.;
    if height < 3 || width < 3 {
        return 0.;
    }
    let second = |at: usize| l[at] - 2. * l[at + 1] + l[at + 2];
    let masked = |at: usize| second(at) - 2. * second(at + width) + second(at + 2 * width);
    let corners = (0..height - 2).flat_map(|y| (0..width - 2).map(move |x| y * width + x));
    let mut found: Vec<f32> = corners.map(|at| masked(at).abs()).collect();
    let quarter = found.len() / 4;
    let (_, quartile, _) = found.select_nth_unstable_by(quarter, f32::total_cmp);
    *quartile / (QUARTILE * MASK)
}

/// Mean over 3 x 3 samples; beyond the border lies the last sample again.
fn boxed(l: &[f32], (height, width): (usize, usize)) -> Vec<f32> {
    let across: Vec<f32> = l
        .chunks_exact(width)
        .flat_map(|row| {
            (0..width).map(move |x| row[x.saturating_sub(1)] + row[x] + row[(x + 1).min(width - 1)])
        })
        .collect();
    let row = |y: usize| &across[y * width..(y + 1) * width];
    let sums = (0..height).flat_map(|y| {
        let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)].map(row);
        (0..width).map(move |x| (rows[0][x] + rows[1][x] + rows[2][x]) / 9.)
    });
    sums.collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SIZE: (usize, usize) = (48, 64);

    /// Two flat halves, and grain of this strength.
    fn halves(grain: f32) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // Nearly normal: twelve even numbers, whose variances sum to 1.
        let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.;
        let side = |i: usize| if i % SIZE.1 < SIZE.1 / 2 { 30. } else { 70. };
        (0..SIZE.0 * SIZE.1)
            .map(|i| side(i) + grain * normal())
            .collect()
    }

    fn rms(a: &[f32], b: &[f32]) -> f32 {
        let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
        (squares.sum::<f32>() / a.len() as f32).sqrt()
    }

    #[test]
    fn a_clean_picture_stays_as_it_is() {
        let clean = halves(0.);
        assert_eq!(removed(&clean, SIZE), clean);
        let slope: Vec<f32> = (0..SIZE.0 * SIZE.1)
            .map(|i| (i % 64 + i / 64) as f32)
            .collect();
        assert_eq!(removed(&slope, SIZE), slope);
        for size in [(1, 1), (2, 9), (9, 2)] {
            let few = vec![7.; size.0 * size.1];
            assert_eq!(removed(&few, size), few);
        }
    }

    #[test]
    fn the_grain_is_measured_and_goes() {
        let clean = halves(0.);
        for grain in [1., 4.] {
            let grainy = halves(grain);
            let measured = strength(&grainy, SIZE);
            assert!((measured / grain - 1.).abs() < 0.1, "{grain}: {measured}");
            let left = rms(&removed(&grainy, SIZE), &clean);
            assert!(left < 0.6 * grain, "{grain}: {left} of it are left");
        }
    }

    #[test]
    fn edges_stay() {
        let cleaned = removed(&halves(2.), SIZE);
        let (left, right) = (SIZE.1 / 2 - 1, SIZE.1 / 2);
        for row in cleaned.chunks_exact(SIZE.1) {
            assert!(row[right] - row[left] > 30., "{row:?}");
        }
    }
}
