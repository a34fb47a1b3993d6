//! Picture metrics: CIEDE2000, PSNR of chroma, colourfulness. Formulas with their sources; no pictures, no files.

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

/// Colourfulness of an 8-bit sRGB picture (Hasler & Suesstrunk 2003, signed differences): 0 for grey, about 40 for
/// the mean photograph.
pub fn colourfulness(rgb: impl Iterator<Item = [f64; 3]>) -> f64 {
    let (mut n, mut sums, mut squares) = (0., [0.; 2], [0.; 2]);
    for [r, g, b] in rgb {
        n += 1.;
        for (i, v) in [r - g, (r + g) / 2. - b].into_iter().enumerate() {
            sums[i] += v;
            squares[i] += v * v;
        }
    }
    let mean = sums.map(|s| s / n);
    let variance = [0, 1].map(|i| squares[i] / n - mean[i] * mean[i]);
    (variance[0] + variance[1]).max(0.).sqrt() + 0.3 * mean[0].hypot(mean[1])
}
