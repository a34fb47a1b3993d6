//! Metrics: CIEDE2000, PSNR, SSIM, colourfulness, divergence of histograms. Formulas with their sources; no files.

use image::RgbImage;

/// CIEDE2000 colour difference of two CIE Lab colours, kL = kC = kH = 1.
///
/// Sharma, Wu, Dalal 2005, "The CIEDE2000 color-difference formula", equations 2 to 22; equal to their test data to
/// 4 decimals (see the tests).
pub fn ciede2000([l1, a1, b1]: [f64; 3], [l2, a2, b2]: [f64; 3]) -> f64 {
    const P7: f64 = 6_103_515_625.; // 25^7
    let half_saturation = |c: f64| (c.powi(7) / (c.powi(7) + P7)).sqrt();
    let mean_c = (a1.hypot(b1) + a2.hypot(b2)) / 2.;
    let g = 0.5 * (1. - half_saturation(mean_c));
    let polar = |a: f64, b: f64| {
        let a = (1. + g) * a;
        let hue = if a == 0. && b == 0. {
            0.
        } else {
            b.atan2(a).to_degrees().rem_euclid(360.)
        };
        (a.hypot(b), hue)
    };
    let ((c1, h1), (c2, h2)) = (polar(a1, b1), polar(a2, b2));
    let grey = c1 * c2 == 0.;

    let mut dh = if grey { 0. } else { h2 - h1 };
    if dh > 180. {
        dh -= 360.;
    } else if dh < -180. {
        dh += 360.;
    }
    let (d_l, d_c) = (l2 - l1, c2 - c1);
    let d_h = 2. * (c1 * c2).sqrt() * (dh / 2.).to_radians().sin();

    let (l, c) = ((l1 + l2) / 2., (c1 + c2) / 2.);
    let h = match (h1 + h2, (h1 - h2).abs()) {
        (sum, _) if grey => sum,
        (sum, apart) if apart <= 180. => sum / 2.,
        (sum, _) if sum < 360. => (sum + 360.) / 2.,
        (sum, _) => (sum - 360.) / 2.,
    };
    let cos = |degrees: f64| degrees.to_radians().cos();
    let t = 1. - 0.17 * cos(h - 30.) + 0.24 * cos(2. * h) + 0.32 * cos(3. * h + 6.)
        - 0.20 * cos(4. * h - 63.);
    let turn = 30. * (-((h - 275.) / 25.).powi(2)).exp();
    let s_l = 1. + 0.015 * (l - 50.).powi(2) / (20. + (l - 50.).powi(2)).sqrt();
    let s_c = 1. + 0.045 * c;
    let s_h = 1. + 0.015 * c * t;
    let r_t = -2. * half_saturation(c) * (2. * turn).to_radians().sin();
    let (l, c, h) = (d_l / s_l, d_c / s_c, d_h / s_h);
    (l * l + c * c + h * h + r_t * c * h).max(0.).sqrt()
}

/// PSNR in dB from the mean squared error over a and b together, in CIE units; peak 220 (from -110 to 110).
pub fn psnr_ab(mean_squared_error: f64) -> f64 {
    10. * (220. * 220. / mean_squared_error).log10()
}

/// PSNR in dB from the mean squared error over R, G and B of 8 bits; peak 255.
pub fn psnr_rgb(mean_squared_error: f64) -> f64 {
    10. * (255. * 255. / mean_squared_error).log10()
}

/// Colourfulness of an 8-bit sRGB picture (Hasler & Suesstrunk 2003, signed differences): 0 for grey, about 40 for
/// the mean photograph.
pub fn colourfulness(rgb: impl Iterator<Item = [f64; 3]>) -> f64 {
    spread(rgb.map(opponents))
}

/// The same with |R - G| and |(R + G) / 2 - B|, as the code of DDColor and ColorMNet has it.
pub fn colourfulness_abs(rgb: impl Iterator<Item = [f64; 3]>) -> f64 {
    spread(rgb.map(|rgb| opponents(rgb).map(f64::abs)))
}

fn opponents([r, g, b]: [f64; 3]) -> [f64; 2] {
    [r - g, (r + g) / 2. - b]
}

/// Size of the standard deviations and, times 0.3, of the means.
fn spread(opponents: impl Iterator<Item = [f64; 2]>) -> f64 {
    let (mut n, mut sums, mut squares) = (0., [0.; 2], [0.; 2]);
    for pair in opponents {
        n += 1.;
        for (i, v) in pair.into_iter().enumerate() {
            sums[i] += v;
            squares[i] += v * v;
        }
    }
    let mean = sums.map(|s| s / n);
    let variance = [0, 1].map(|i| squares[i] / n - mean[i] * mean[i]);
    (variance[0] + variance[1]).max(0.).sqrt() + 0.3 * mean[0].hypot(mean[1])
}

/// Structural similarity of two 8-bit pictures of one size, the mean over R, G and B: 1 for equal ones.
///
/// Wang, Bovik, Sheikh, Simoncelli 2004: Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, range 255, over
/// the windows that lie inside. A picture with a side below 11 has smaller windows.
pub fn ssim(x: &RgbImage, y: &RgbImage) -> f64 {
    let (width, height) = (x.width() as usize, x.height() as usize);
    let window = gaussian(5.min((width.min(height).max(1) - 1) / 2));
    let plane = |picture: &RgbImage, channel: usize| -> Vec<f32> {
        let values = picture.as_raw()[channel..].iter().step_by(3);
        values.map(|v| f32::from(*v)).collect()
    };
    let of_channel = |channel| {
        let (x, y) = (plane(x, channel), plane(y, channel));
        let mean = |p: &dyn Fn(f32, f32) -> f32| {
            let values: Vec<f32> = x.iter().zip(&y).map(|(x, y)| p(*x, *y)).collect();
            filtered(&values, width, &window)
        };
        let (mx, my) = (mean(&|x, _| x), mean(&|_, y| y));
        let (xx, yy, xy) = (
            mean(&|x, _| x * x),
            mean(&|_, y| y * y),
            mean(&|x, y| x * y),
        );
        let at = |i: usize| similarity([mx[i], my[i], xx[i], yy[i], xy[i]].map(f64::from));
        (0..mx.len()).map(at).sum::<f64>() / mx.len() as f64
    };
    (0..3).map(of_channel).sum::<f64>() / 3.
}

/// SSIM of one window, from its means of x, y, x^2, y^2 and xy.
fn similarity([mx, my, xx, yy, xy]: [f64; 5]) -> f64 {
    const C1: f64 = (0.01 * 255.) * (0.01 * 255.);
    const C2: f64 = (0.03 * 255.) * (0.03 * 255.);
    let (vx, vy, covariance) = (xx - mx * mx, yy - my * my, xy - mx * my);
    (2. * mx * my + C1) * (2. * covariance + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2))
}

/// A Gaussian of sigma 1.5 from -radius to radius, with sum 1.
fn gaussian(radius: usize) -> Vec<f32> {
    let offsets = (0..=2 * radius).map(|i| i as f64 - radius as f64);
    let weights: Vec<f64> = offsets.map(|d| (-d * d / (2. * 1.5 * 1.5)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| (w / sum) as f32).collect()
}

/// A plane under a separable window, where the window lies inside.
fn filtered(plane: &[f32], width: usize, window: &[f32]) -> Vec<f32> {
    let across = |row: &[f32]| -> Vec<f32> {
        let dot = |part: &[f32]| part.iter().zip(window).map(|(v, w)| v * w).sum();
        row.windows(window.len()).map(dot).collect()
    };
    let rows: Vec<Vec<f32>> = plane.chunks_exact(width).map(across).collect();
    let down = |rows: &[Vec<f32>]| {
        let mut sum = vec![0.; rows[0].len()];
        for (row, weight) in rows.iter().zip(window) {
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += weight * v);
        }
        sum
    };
    rows.windows(window.len()).flat_map(down).collect()
}

/// The share of each of 256 values among those of R, G and B.
#[derive(Clone, Debug)]
pub struct Histograms([[f64; 256]; 3]);

impl Histograms {
    /// Of an 8-bit picture.
    pub fn of(picture: &RgbImage) -> Self {
        let mut shares = [[0.; 256]; 3];
        let one = 1. / f64::from(picture.width() * picture.height());
        for pixel in picture.pixels() {
            for (share, value) in shares.iter_mut().zip(pixel.0) {
                share[usize::from(value)] += one;
            }
        }
        Self(shares)
    }

    /// Jensen-Shannon divergence, natural logarithm, the mean over R, G and B: 0 for equal ones, at most ln 2.
    pub fn divergence(&self, other: &Self) -> f64 {
        let term = |p: f64, m: f64| if p > 0. { p * (p / m).ln() } else { 0. };
        let pairs = self.0.iter().flatten().zip(other.0.iter().flatten());
        let both = pairs.map(|(p, q)| {
            let m = (p + q) / 2.;
            (term(*p, m) + term(*q, m)) / 2.
        });
        both.sum::<f64>() / 3.
    }
}
