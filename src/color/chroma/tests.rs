use super::*;
use crate::frame::Matrix;

const MATRICES: [Matrix; 5] = [
    Matrix::BT601,
    Matrix::BT709,
    Matrix::BT2020,
    Matrix::FCC,
    Matrix::SMPTE240M,
];

fn sampling(depth: u8, log2: (u8, u8)) -> Sampling {
    let middle = ((1u8 << log2.1) - 1) as f32 / 2.0;
    Sampling {
        depth,
        log2_w: log2.0,
        log2_h: log2.1,
        chroma_offset: (0.0, middle),
        range: Range::Limited,
        matrix: Matrix::BT709,
        primaries: Primaries::BT709,
        interlaced: false,
    }
}

/// Chroma codes of a picture of `size`, whose luma codes are row-major.
fn painted(size: (usize, usize), sampling: &Sampling, luma: &[u16], ab: &AbMap) -> [Vec<u16>; 2] {
    let painter = Painter::new(size, sampling);
    let bytes = if sampling.depth == 8 { 1 } else { 2 };
    let rows: Vec<u8> = luma
        .iter()
        .flat_map(|v| v.to_ne_bytes().into_iter().take(bytes))
        .collect();
    let (width, height) = painter.chroma_size();
    // A few bytes between the rows: a stride that is no row's length.
    let stride = width * bytes + 6;
    let mut planes = [(); 2].map(|()| vec![0; stride * height]);
    let [cb, cr] = planes.each_mut().map(|data| PlaneMut { data, stride });
    let row = size.0 * bytes;
    painter.paint(|y| &rows[y * row..(y + 1) * row], ab, cb, cr);
    planes.map(|plane| {
        let code = |at: usize| match bytes {
            1 => u16::from(plane[at]),
            _ => u16::from_ne_bytes([plane[at], plane[at + 1]]),
        };
        let row = |y: usize| (0..width).map(move |x| y * stride + x * bytes);
        (0..height).flat_map(row).map(code).collect()
    })
}

/// Even noise, the same every time (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// A map of noise of up to `most` in each direction.
fn noise_map(width: usize, height: usize, most: f32) -> AbMap {
    let mut noise = Noise(7);
    let mut values = || {
        (0..width * height)
            .map(|_| (noise.next() * 2.0 - 1.0) * most)
            .collect()
    };
    AbMap {
        width,
        height,
        a: values(),
        b: values(),
    }
}

fn noise_luma(count: usize, depth: u8) -> Vec<u16> {
    let mut noise = Noise(8);
    let last = ((1u32 << depth) - 1) as f32;
    (0..count)
        .map(|_| (noise.next() * last).round() as u16)
        .collect()
}

/// The same in double precision, step by step from the definitions; the mix with grey is found by bisection.
mod reference {
    use super::*;

    fn f_inverse(t: f64) -> f64 {
        let d = 6.0 / 29.0;
        if t > d {
            t.powi(3)
        } else {
            3.0 * d * d * (t - 4.0 / 29.0)
        }
    }

    fn linear(v: f64) -> f64 {
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    }

    fn encoded(v: f64) -> f64 {
        let v = v.max(0.0);
        if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        }
    }

    /// XYZ relative to white -> linear R, G, B, from IEC 61966-2-1's matrix (scikit-image's), rows made to give white.
    fn rgb(xyz: [f64; 3]) -> [f64; 3] {
        let inverse = [
            [3.240_481_34, -1.537_151_52, -0.498_536_33],
            [-0.969_254_95, 1.875_990_00, 0.041_555_93],
            [0.055_646_64, -0.204_041_34, 1.057_311_07],
        ];
        let white = [0.950_47, 1.0, 1.088_83];
        inverse.map(|row: [f64; 3]| {
            let terms = [0, 1, 2].map(|i| row[i] * white[i]);
            let sum: f64 = terms.iter().sum();
            (0..3).map(|i| terms[i] * xyz[i]).sum::<f64>() / sum
        })
    }

    /// Cb and Cr codes, not rounded, in BT.709 primaries.
    pub fn chroma(code: f64, a: f64, b: f64, s: &Sampling) -> [f64; 2] {
        let unit = f64::from(1u32 << (s.depth - 8));
        let last = f64::from((1u32 << s.depth) - 1);
        let (level, scale) = match s.range {
            Range::Limited => ((code - 16.0 * unit) / (219.0 * unit), 224.0 * unit),
            Range::Full => (code / last, last),
        };
        let y = linear(level.clamp(0.0, 1.0));
        let fy = if y > (6.0f64 / 29.0).powi(3) {
            y.cbrt()
        } else {
            y * 841.0 / 108.0 + 4.0 / 29.0
        };
        let colour = rgb([f_inverse(fy + a / 500.0), y, f_inverse(fy - b / 200.0)]);
        let mixed = |t: f64| colour.map(|v| y + t * (v - y));
        let shown = |t: f64| mixed(t).iter().all(|v| (-1e-9..=1.0 + 1e-9).contains(v));
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let t = if shown(high) {
                high
            } else {
                (low + high) / 2.0
            };
            if shown(t) { low = t } else { high = t }
        }
        let [r, g, b] = mixed(low).map(encoded);
        let (kr, kb) = (f64::from(s.matrix.kr), f64::from(s.matrix.kb));
        let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
        let neutral = 128.0 * unit;
        [
            neutral + scale * (b - luma) / (2.0 * (1.0 - kb)),
            neutral + scale * (r - luma) / (2.0 * (1.0 - kr)),
        ]
        .map(|v| v.clamp(0.0, last))
    }
}

#[test]
fn chroma_is_the_lab_colour_s_in_every_matrix_range_and_depth() {
    // A map as large as the picture is sampled at its own samples: no interpolation in the way.
    let (side, map) = (64, noise_map(64, 64, 90.0));
    for depth in 8..=16 {
        let luma = noise_luma(side * side, depth);
        for range in [Range::Limited, Range::Full] {
            for matrix in MATRICES {
                let s = Sampling {
                    range,
                    matrix,
                    ..sampling(depth, (0, 0))
                };
                let planes = painted((side, side), &s, &luma, &map);
                // Half a code is rounding. A tenth of a code at 8 bits is the published digits of the matrix, and from
                // 15 bits on what the luma table drops, where the curve is steepest.
                let most = 0.5 + 0.1 * f64::from(1u32 << (depth - 8));
                for i in 0..side * side {
                    let (a, b) = (f64::from(map.a[i]), f64::from(map.b[i]));
                    let truth = reference::chroma(luma[i].into(), a, b, &s);
                    for (plane, truth) in planes.iter().zip(truth) {
                        let error = (f64::from(plane[i]) - truth).abs();
                        assert!(
                            error <= most,
                            "{s:?} {} {a} {b}: {} for {truth}",
                            luma[i],
                            plane[i]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn no_colour_is_exactly_neutral() {
    let zero = AbMap {
        width: 2,
        height: 2,
        a: vec![0.0; 4],
        b: vec![0.0; 4],
    };
    for depth in 8..=16 {
        let luma: Vec<u16> = (0..1u32 << 16)
            .map(|i| (i >> (16 - depth)) as u16)
            .collect();
        for (range, matrix) in [Range::Limited, Range::Full]
            .into_iter()
            .flat_map(|r| MATRICES.map(|m| (r, m)))
        {
            let s = Sampling {
                range,
                matrix,
                ..sampling(depth, (0, 0))
            };
            for plane in painted((256, 256), &s, &luma, &zero) {
                assert!(plane.iter().all(|&v| v == 1 << (depth - 1)), "{s:?}");
            }
        }
    }
}

#[test]
fn colours_out_of_gamut_keep_their_luminance_and_hue_and_come_into_gamut() {
    let codes = Codes::new(&sampling(8, (0, 0)));
    let mut noise = Noise(9);
    let mut outside = 0;
    for _ in 0..100_000 {
        let [l, a, b] = [100.0, 220.0, 220.0].map(|most| noise.next() * most);
        let (fy, a, b) = ((l + 16.0) / 116.0, a - 110.0, b - 110.0);
        let y = lab_f_inverse(fy);
        let inside = codes.linear(fy, a, b);
        assert!(
            inside.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)),
            "{l} {a} {b}: {inside:?}"
        );
        let luminance = 0.212_671 * inside[0] + 0.715_160 * inside[1] + 0.072_169 * inside[2];
        assert!(
            (luminance - y).abs() < 1e-4,
            "{l} {a} {b}: {luminance} for {y}"
        );
        let free = super::super::linear_from_lab([l, a, b]);
        if free.iter().all(|v| (0.0..=1.0).contains(v)) {
            assert!(free.iter().zip(inside).all(|(f, i)| (f - i).abs() < 1e-4));
        } else {
            outside += 1;
            // One factor for all three differences from grey.
            let cross = (free[0] - y) * (inside[2] - y) - (free[2] - y) * (inside[0] - y);
            assert!(cross.abs() < 1e-3, "{l} {a} {b}");
        }
    }
    assert!(outside > 50_000);
}

#[test]
fn the_curve_is_srgb_s() {
    for i in 0..=10_000 {
        let v = i as f32 / 10_000.0;
        let truth = super::super::srgb_from_linear(v);
        assert!((srgb_from_linear(v) - truth).abs() < 8e-6, "{v}");
    }
}

#[test]
fn primaries_give_their_own_rgb() {
    // BT.2020 red seen in BT.709 is beyond it, and the other way round lies inside: ITU-R BT.2087, 0.6274 0.0691
    // 0.0164 for BT.709's red.
    let at = |p: &Primaries, x: f64, z: f64| {
        rgb_from_xz(p).map(|m| f64::from(m[0]) * x + f64::from(m[1]) * z)
    };
    // BT.709's red has X, Y, Z relative to white of 0.4124 / 0.9505, 0.2126, 0.0193 / 1.089.
    let (x, y, z) = (0.412_391 / 0.950_456, 0.212_639, 0.019_331 / 1.089_058);
    let red = at(&Primaries::BT2020, x - y, z - y).map(|v| v + y);
    for (v, truth) in red.iter().zip([0.6274, 0.0691, 0.0164]) {
        assert!((v - truth).abs() < 2e-4, "{red:?}");
    }
}

#[test]
fn a_site_averages_the_cell_around_it() {
    let cell = |centre, size| {
        let cell = Cell::new(centre, size);
        (cell.first, cell.weights)
    };
    assert_eq!(cell(0.0, 1), (0, vec![1]));
    assert_eq!(cell(0.5, 2), (0, vec![1, 1]), "centre");
    assert_eq!(cell(0.0, 2), (-1, vec![1, 2, 1]), "left or top");
    assert_eq!(cell(1.0, 2), (0, vec![1, 2, 1]), "bottom");
    assert_eq!(cell(1.5, 4), (0, vec![1, 1, 1, 1]), "4:1:1 centre");
    assert_eq!(cell(0.0, 4), (-2, vec![1, 2, 2, 2, 1]), "4:1:1 left");
    // Interlaced: a quarter of a line below the top field's first, three quarters below the bottom field's.
    let s = Sampling {
        interlaced: true,
        ..sampling(8, (1, 1))
    };
    let [top, bottom] = [0, 1].map(|parity| rows_of_cell(&s, parity));
    assert_eq!((top.first, top.weights), (-1, vec![1, 4, 3]));
    assert_eq!((bottom.first, bottom.weights), (0, vec![3, 4, 1]));
}

#[test]
fn luma_is_averaged_before_its_lightness_is_taken() {
    // 4:2:0 left: the middle site sees columns 1, 2, 2, 3 of both rows.
    let luma = [16u16, 40, 80, 120, 200, 235, 16, 60, 100, 140, 200, 235];
    let s = sampling(8, (1, 1));
    let planes = painted((6, 2), &s, &luma, &AbMap::constant(20.0, 30.0));
    let mean = (40 + 2 * 80 + 120 + 60 + 2 * 100 + 140) as f64 / 8.0;
    let truth = reference::chroma(mean, 20.0, 30.0, &s);
    for (plane, truth) in planes.iter().zip(truth) {
        assert!(
            (f64::from(plane[1]) - truth).abs() < 0.53,
            "{} for {truth}",
            plane[1]
        );
    }
}

#[test]
fn maps_are_sampled_at_the_chroma_sites() {
    // Catmull-Rom curves reproduce a ramp, away from its ends.
    let (width, cells) = (640, 40);
    for (offset, log2_w) in [(0.0, 1), (0.5, 1), (0.0, 2), (1.5, 2), (0.0, 0)] {
        let s = Sampling {
            chroma_offset: (offset, 0.5),
            ..sampling(8, (log2_w, 1))
        };
        let painter = Painter::new((width, 32), &s);
        let mut padded: Vec<f32> = vec![0.0; PAD];
        padded.extend((0..cells).map(|i| i as f32));
        padded.resize(cells + 2 * PAD, 0.0);
        repeat_edges(&mut padded, cells);
        let mut out = vec![0.0; painter.chroma_size().0];
        Curve::across(&painter, cells).apply(&padded, &mut out);
        for (i, v) in out.iter().enumerate() {
            // Site i is at luma sample i << log2_w, plus the offset; a cell is 16 samples wide.
            let at = ((i << log2_w) as f32 + offset + 0.5) / 16.0 - 0.5;
            if (1.0..=cells as f32 - 3.0).contains(&at) {
                assert!((v - at).abs() < 1e-3, "{offset} {log2_w} {i}: {v} for {at}");
            }
        }
    }
}

#[test]
fn catmull_rom_goes_through_its_samples_and_keeps_constants() {
    for i in 0..200 {
        let (_, w) = catmull_rom(i as f32, 200, 31);
        assert!((w.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    // The middle of cell 3 of 10 over 50 samples is at sample 17.
    let (before, w) = catmull_rom(17.0, 50, 10);
    assert_eq!(before, 3);
    assert!((w[1] - 1.0).abs() < 1e-6);
}

#[test]
fn fields_do_not_mix() {
    // One field dark, one light: interlaced chroma rows are those of an even picture of their field's grey.
    let (width, height) = (16, 21);
    let ab = AbMap::constant(15.0, -25.0);
    let s = Sampling {
        interlaced: true,
        ..sampling(8, (1, 1))
    };
    let even = |code: u16| painted((width, height), &s, &vec![code; width * height], &ab);
    let luma: Vec<u16> = (0..width * height)
        .map(|i| if i / width % 2 == 0 { 60 } else { 180 })
        .collect();
    let mixed = painted((width, height), &s, &luma, &ab);
    let (dark, light) = (even(60), even(180));
    assert_ne!(dark, light);
    for (plane, (dark, light)) in mixed.iter().zip(dark.iter().zip(&light)) {
        for (j, row) in plane.chunks(width / 2).enumerate() {
            let field = if j % 2 == 0 { dark } else { light };
            assert_eq!(row, &field[..width / 2], "chroma row {j}");
        }
    }
}

#[test]
fn every_size_has_right_edges() {
    // An even picture has even chroma, whatever the size and the subsampling.
    let ab = AbMap {
        width: 3,
        height: 2,
        a: vec![25.0; 6],
        b: vec![-10.0; 6],
    };
    for log2 in [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 2)] {
        for interlaced in [false, true] {
            let s = Sampling {
                interlaced,
                ..sampling(10, log2)
            };
            let whole = painted((8, 8), &s, &[500; 64], &ab).map(|p| p[0]);
            assert_ne!(whole, [512, 512]);
            for size in [(1, 1), (1, 2), (2, 1), (3, 5), (5, 3), (641, 361)] {
                let planes = painted(size, &s, &vec![500; size.0 * size.1], &ab);
                for (plane, code) in planes.iter().zip(whole) {
                    let sites = size.0.div_ceil(1 << log2.0) * size.1.div_ceil(1 << log2.1);
                    assert_eq!(plane.len(), sites);
                    assert!(plane.iter().all(|&v| v == code), "{log2:?} {size:?}");
                }
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (width, height) = (2048, 2100);
    let s = sampling(8, (1, 1));
    assert!(width * height / 4 >= PARALLEL_FROM);
    let luma = noise_luma(width * height, 8);
    let ab = noise_map(57, 43, 40.0);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| painted((width, height), &s, &luma, &ab))
    };
    let one = with(1);
    assert_eq!(one, with(3));
    // Nor does it matter where the bands begin: the top of the picture alone, with the same map rows, in one piece.
    let top = Painter::new((width, height), &s);
    let curve = Curve::across(&top, ab.width);
    let mut band = Band::<u16>::new(&top, &curve, &ab);
    band.colour(BAND + 1);
    let fresh = (band.a.clone(), band.b.clone());
    for j in 0..=BAND + 1 {
        band.colour(j);
    }
    assert_eq!(fresh, (band.a, band.b));
}
