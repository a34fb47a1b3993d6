//! The plane-wise path: (Y', a, b) to Cb, Cr planes at chroma size. Luma is only read.
//!
//! For every chroma site, the Lab colour (L of the luma there, a and b of the map there) is taken to R'G'B' and to Cb,
//! Cr with the picture's own primaries, matrix, range and depth. A colour that RGB cannot show is mixed with the grey
//! of the same luminance until it can: it loses saturation and keeps its lightness. Clipping RGB would shift both.
//!
//! Everything works on rows of plain slices, in operations that the compiler vectorises: comparisons as selects, the
//! transfer curve as two square roots and a polynomial. There is no fused multiplication and no sum whose order could
//! change, so the planes are the same, bit for bit, for any instruction set and number of threads.

use super::{DELTA, level_from_code, linear_from_srgb};
use crate::frame::{AbMap, Primaries, Range, Sampling};
use rayon::prelude::*;

/// Entries of the luma table: enough for 12-bit codes in sums of four; longer sums drop their last bits, which moves
/// L by less than 0.01.
const TABLE: usize = 1 << 14;
/// Chroma rows that one task fills where several do. Each computes the map rows around its first row again.
const BAND: usize = 128;
/// Chroma planes below this many sites are filled by the calling thread: the encoder has better use for the others.
const PARALLEL_FROM: usize = 1 << 20;
/// Copies of a row's first and last sample put before and after it, so that no average or curve needs to know edges.
const PAD: usize = 8;

/// A plane to be filled: rows of native-endian samples (bytes at 8 bits, else 16-bit words), `stride` bytes apart.
pub struct PlaneMut<'a> {
    /// All rows.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Paints the chroma planes of pictures of one size and sampling.
pub struct Painter {
    size: (usize, usize),
    sampling: Sampling,
    across: Cell,
    /// The rows that a site averages, for each parity of the chroma row.
    down: [Cell; 2],
    cube_roots: Box<[f32; TABLE]>,
    /// Bits that a luma sum drops to index the table.
    drop: u32,
    codes: Codes,
}

impl Painter {
    /// For pictures of `size` (luma width and height).
    pub fn new(size: (usize, usize), sampling: &Sampling) -> Self {
        let across = Cell::new(sampling.chroma_offset.0, 1 << sampling.log2_w);
        let down = [0, 1].map(|parity| rows_of_cell(sampling, parity));
        let bits = u32::from(sampling.depth) + across.bits() + down[0].bits();
        let drop = bits.saturating_sub(TABLE.ilog2());
        Self {
            size,
            sampling: *sampling,
            cube_roots: cube_root_table(sampling, bits, drop),
            across,
            down,
            drop,
            codes: Codes::new(sampling),
        }
    }

    /// Width and height of a chroma plane: luma's, halved or quartered and rounded up.
    pub fn chroma_size(&self) -> (usize, usize) {
        let Sampling { log2_w, log2_h, .. } = self.sampling;
        let (width, height) = self.size;
        (width.div_ceil(1 << log2_w), height.div_ceil(1 << log2_h))
    }

    /// Fills `cb` and `cr` from the rows that `luma` gives (native-endian samples at the sampling's depth, a picture's
    /// width of them) and from the map, which lies as the picture does.
    pub fn paint<'a>(
        &self,
        luma: impl Fn(usize) -> &'a [u8] + Sync,
        ab: &AbMap,
        cb: PlaneMut,
        cr: PlaneMut,
    ) {
        if self.sampling.depth == 8 {
            self.paint_as::<1, [u8; 1]>(luma, ab, cb, cr);
        } else {
            self.paint_as::<2, [u8; 2]>(luma, ab, cb, cr);
        }
    }

    fn paint_as<'a, const N: usize, C: Code<N>>(
        &self,
        luma: impl Fn(usize) -> &'a [u8] + Sync,
        ab: &AbMap,
        cb: PlaneMut,
        cr: PlaneMut,
    ) {
        let (width, height) = self.chroma_size();
        let curve = Curve::across(self, ab.width);
        let band = |first: usize, cb_rows: &mut [u8], cr_rows: &mut [u8]| {
            let mut band = Band::<C::Sum>::new(self, &curve, ab);
            let rows = cb_rows.chunks_mut(cb.stride);
            for (j, (cb, cr)) in (first..height).zip(rows.zip(cr_rows.chunks_mut(cr.stride))) {
                band.colour(j);
                band.lightness::<N, C>(j, &luma);
                let (cb, cr) = (C::row_mut(cb), C::row_mut(cr));
                let lab = [&band.fy[..width], &band.a[..width], &band.b[..width]];
                paint_row(&self.codes, lab, &mut cb[..width], &mut cr[..width]);
            }
        };
        if width * height < PARALLEL_FROM {
            return band(0, cb.data, cr.data);
        }
        let cb_bands = cb.data.par_chunks_mut(cb.stride * BAND);
        cb_bands
            .zip(cr.data.par_chunks_mut(cr.stride * BAND))
            .enumerate()
            .for_each(|(i, (cb, cr))| band(i * BAND, cb, cr));
    }

    /// Where chroma row `j` lies among the luma rows. The two fields of an interlaced picture take turns, and in the
    /// usual layouts their rows still lie evenly in the frame.
    fn row_position(&self, j: usize) -> f32 {
        ((j << self.sampling.log2_h) as f32) + self.sampling.chroma_offset.1
    }

    /// The luma row that tap `tap` of chroma row `j`'s cell reads, edges repeated.
    fn luma_row(&self, j: usize, tap: isize) -> usize {
        let last = self.size.1 - 1;
        if !fields(&self.sampling) {
            let row = (j << self.sampling.log2_h) as isize + tap;
            return row.clamp(0, last as isize) as usize;
        }
        let field = j & 1;
        let lines = (self.size.1 - field.min(last)).div_ceil(2) as isize;
        let line = (j & !1) as isize + tap;
        (2 * line.clamp(0, lines - 1) as usize + field).min(last)
    }
}

/// Whether chroma rows belong to fields in turn: only where two luma rows share one.
fn fields(sampling: &Sampling) -> bool {
    sampling.interlaced && sampling.log2_h == 1
}

/// The rows that a chroma site averages: frame rows from `j << log2_h`, or in a field its lines from `j & !1`, where
/// the site of frame position `2 j + offset` lies `(parity + offset) / 2` lines below.
fn rows_of_cell(sampling: &Sampling, parity: u8) -> Cell {
    let offset = sampling.chroma_offset.1;
    if fields(sampling) {
        Cell::new((f32::from(parity) + offset) / 2.0, 2)
    } else {
        Cell::new(offset, 1 << sampling.log2_h)
    }
}

/// What a chroma sample covers in one direction: a cell of `size` luma samples centred on its site. The samples at the
/// ends may be covered in part.
struct Cell {
    /// The first sample covered, counted from the sample that the site's index names.
    first: isize,
    /// How much of each is covered, in the largest common unit; the sum is a power of two.
    weights: Vec<u32>,
}

impl Cell {
    fn new(centre: f32, size: usize) -> Self {
        let (from, to) = (centre - size as f32 / 2.0, centre + size as f32 / 2.0);
        let first = (from + 0.5).floor() as isize;
        let covered = |i: isize| (to.min(i as f32 + 0.5) - from.max(i as f32 - 0.5)) * 4.0;
        let quarters: Vec<u32> = (first..)
            .map_while(|i| Some(covered(i).round() as u32).filter(|&w| w > 0))
            .collect();
        let unit = quarters.iter().fold(0, |a, &b| gcd(a, b)).max(1);
        Self {
            first,
            weights: quarters.iter().map(|w| w / unit).collect(),
        }
    }

    /// log2 of the sum of the weights.
    fn bits(&self) -> u32 {
        self.weights.iter().sum::<u32>().ilog2()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// CIE f(Y), the cube root that Lab is made of, of every luma sum of `bits` bits, `drop` of which are dropped.
fn cube_root_table(sampling: &Sampling, bits: u32, drop: u32) -> Box<[f32; TABLE]> {
    let mut table = Box::new([0.0; TABLE]);
    let parts = (1u32 << (bits - u32::from(sampling.depth))) as f32;
    for (i, entry) in (0u32..).zip(table.iter_mut()).take(1 << (bits - drop)) {
        // The middle of the sums that fall on this entry.
        let sum = (i << drop) as f32 + ((1u32 << drop) - 1) as f32 / 2.0;
        let level = level_from_code(sum / parts, sampling.depth, sampling.range);
        *entry = super::lab_f(linear_from_srgb(level));
    }
    table
}

/// A sample as it lies in memory: native-endian bytes, wherever a plane begins.
trait Code<const N: usize>: Copy + Sized + Send + Sync {
    /// What sums of samples fit in: weights add up to at most 64.
    type Sum: Sum;
    fn row(bytes: &[u8]) -> &[Self];
    fn row_mut(bytes: &mut [u8]) -> &mut [Self];
    fn sum(self, weight: u32) -> Self::Sum;
    fn from_code(code: u32) -> Self;
}

trait Sum: Copy + Default + Send + Sync + std::ops::Add<Output = Self> {
    fn get(self) -> u32;
}

macro_rules! code {
    ($bytes:literal, $value:ty, $sum:ty) => {
        impl Code<$bytes> for [u8; $bytes] {
            type Sum = $sum;
            #[inline(always)]
            fn row(bytes: &[u8]) -> &[Self] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn row_mut(bytes: &mut [u8]) -> &mut [Self] {
                bytes.as_chunks_mut().0
            }
            #[inline(always)]
            fn sum(self, weight: u32) -> $sum {
                <$sum>::from(<$value>::from_ne_bytes(self)) * weight as $sum
            }
            #[inline(always)]
            fn from_code(code: u32) -> Self {
                (code as $value).to_ne_bytes()
            }
        }
        impl Sum for $sum {
            #[inline(always)]
            fn get(self) -> u32 {
                self.into()
            }
        }
    };
}
code!(1, u8, u16);
code!(2, u16, u32);

/// Catmull-Rom interpolation of a row of `from` map samples at chroma sites: four neighbours and their weights each.
struct Curve {
    sites: Vec<(usize, [f32; 4])>,
}

impl Curve {
    fn across(painter: &Painter, from: usize) -> Self {
        let position =
            |i: usize| ((i << painter.sampling.log2_w) as f32) + painter.sampling.chroma_offset.0;
        Self {
            sites: (0..painter.chroma_size().0)
                .map(|i| catmull_rom(position(i), painter.size.0, from))
                .map(|(before, weights)| ((before + PAD as isize - 1) as usize, weights))
                .collect(),
        }
    }

    /// One padded row of the map at every site.
    fn apply(&self, padded: &[f32], out: &mut [f32]) {
        for (out, &(at, w)) in out.iter_mut().zip(&self.sites) {
            let v = &padded[at..at + 4];
            *out = w[0] * v[0] + w[1] * v[1] + w[2] * v[2] + w[3] * v[3];
        }
    }
}

/// The sample at or before `position` (in samples of a picture `over` wide) on a grid of `cells` that spans the picture,
/// and the weights of the samples before it, at it and the two after it (Catmull and Rom 1974, tension 1/2). Samples
/// outside the grid are those at its edge.
fn catmull_rom(position: f32, over: usize, cells: usize) -> (isize, [f32; 4]) {
    let at = (position + 0.5) / over as f32 * cells as f32 - 0.5;
    let t = at - at.floor();
    let weights = [
        ((2.0 - t) * t - 1.0) * t / 2.0,
        ((3.0 * t - 5.0) * t * t + 2.0) / 2.0,
        ((4.0 - 3.0 * t) * t + 1.0) * t / 2.0,
        (t - 1.0) * t * t / 2.0,
    ];
    let before = (at.floor() as isize).clamp(-1, cells as isize);
    (before, weights)
}

/// Scratch rows of one run of chroma rows.
struct Band<'a, S> {
    painter: &'a Painter,
    curve: &'a Curve,
    ab: &'a AbMap,
    /// The last four map rows taken to chroma width; map row r in slot r & 3.
    stretched: [Stretched; 4],
    padded: Vec<f32>,
    sums: Vec<S>,
    fy: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

/// A map row at chroma width.
#[derive(Clone, Default)]
struct Stretched {
    row: Option<usize>,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl<'a, S: Sum> Band<'a, S> {
    fn new(painter: &'a Painter, curve: &'a Curve, ab: &'a AbMap) -> Self {
        let width = painter.chroma_size().0;
        let zeros = || vec![0.0; width];
        let stretched = || Stretched {
            row: None,
            a: zeros(),
            b: zeros(),
        };
        Self {
            painter,
            curve,
            ab,
            stretched: [0; 4].map(|_| stretched()),
            padded: vec![0.0; ab.width + 2 * PAD],
            sums: vec![S::default(); (width << painter.sampling.log2_w) + 2 * PAD],
            fy: zeros(),
            a: zeros(),
            b: zeros(),
        }
    }

    /// a and b at the sites of chroma row `j`.
    fn colour(&mut self, j: usize) {
        let position = self.painter.row_position(j);
        let (before, weights) = catmull_rom(position, self.painter.size.1, self.ab.height);
        let last = self.ab.height as isize - 1;
        let rows = [-1, 0, 1, 2].map(|i| (before + i).clamp(0, last) as usize);
        for row in rows {
            self.stretch(row);
        }
        let [p, q, r, s] = rows.map(|row| &self.stretched[row & 3]);
        blend([&p.a, &q.a, &r.a, &s.a], weights, &mut self.a);
        blend([&p.b, &q.b, &r.b, &s.b], weights, &mut self.b);
    }

    /// Makes sure that map row `row` is in its slot.
    fn stretch(&mut self, row: usize) {
        let slot = &mut self.stretched[row & 3];
        if slot.row == Some(row) {
            return;
        }
        slot.row = Some(row);
        let range = row * self.ab.width..(row + 1) * self.ab.width;
        for (from, to) in [(&self.ab.a, &mut slot.a), (&self.ab.b, &mut slot.b)] {
            let inner = PAD..PAD + self.ab.width;
            self.padded[inner].copy_from_slice(&from[range.clone()]);
            repeat_edges(&mut self.padded, self.ab.width);
            self.curve.apply(&self.padded, to);
        }
    }

    /// CIE f(Y) of the average luma at the sites of chroma row `j`.
    fn lightness<'l, const N: usize, C: Code<N, Sum = S>>(
        &mut self,
        j: usize,
        luma: &impl Fn(usize) -> &'l [u8],
    ) {
        let (cell, width) = (&self.painter.down[j & 1], self.painter.size.0);
        let inner = &mut self.sums[PAD..PAD + width];
        for (tap, &weight) in (cell.first..).zip(&cell.weights) {
            let row = C::row(luma(self.painter.luma_row(j, tap)));
            if tap == cell.first {
                set_row(inner, row, weight);
            } else {
                add_row(inner, row, weight);
            }
        }
        repeat_edges(&mut self.sums, width);
        let across = &self.painter.across;
        let first = (PAD as isize + across.first) as usize;
        let look_up = LookUp {
            sums: &self.sums[first..],
            step: 1 << self.painter.sampling.log2_w,
            drop: self.painter.drop,
            table: &self.painter.cube_roots,
        };
        // One loop for each shape: the lengths of the averages are known in it.
        match *across.weights.as_slice() {
            [_] => look_up.run([1], &mut self.fy),
            [_, _] => look_up.run([1, 1], &mut self.fy),
            [_, _, _] => look_up.run([1, 2, 1], &mut self.fy),
            [_, _, _, _] => look_up.run([1, 1, 1, 1], &mut self.fy),
            _ => look_up.run([1, 2, 2, 2, 1], &mut self.fy),
        }
    }
}

/// Copies the first and last of `width` values into the padding around them.
fn repeat_edges<T: Copy>(padded: &mut [T], width: usize) {
    let (first, last) = (padded[PAD], padded[PAD + width - 1]);
    padded[..PAD].fill(first);
    padded[PAD + width..].fill(last);
}

/// `sums = row * weight`.
fn set_row<const N: usize, C: Code<N>>(sums: &mut [C::Sum], row: &[C], weight: u32) {
    for (sum, code) in sums.iter_mut().zip(row) {
        *sum = code.sum(weight);
    }
}

/// `sums += row * weight`.
fn add_row<const N: usize, C: Code<N>>(sums: &mut [C::Sum], row: &[C], weight: u32) {
    if weight == 1 {
        for (sum, code) in sums.iter_mut().zip(row) {
            *sum = *sum + code.sum(1);
        }
    } else {
        for (sum, code) in sums.iter_mut().zip(row) {
            *sum = *sum + code.sum(weight);
        }
    }
}

/// Column sums to f(Y) at the sites.
struct LookUp<'a, S> {
    sums: &'a [S],
    step: usize,
    drop: u32,
    table: &'a [f32; TABLE],
}

impl<S: Sum> LookUp<'_, S> {
    #[inline(always)]
    fn run<const TAPS: usize>(&self, weights: [u32; TAPS], out: &mut [f32]) {
        for (out, at) in out.iter_mut().zip((0..).step_by(self.step)) {
            let taps = &self.sums[at..at + TAPS];
            let sum: u32 = taps.iter().zip(weights).map(|(s, w)| s.get() * w).sum();
            *out = self.table[(sum >> self.drop) as usize % TABLE];
        }
    }
}

/// The weighted sum of four rows.
fn blend(rows: [&[f32]; 4], w: [f32; 4], out: &mut [f32]) {
    let [p, q, r, s] = rows;
    for ((((out, p), q), r), s) in out.iter_mut().zip(p).zip(q).zip(r).zip(s) {
        *out = w[0] * p + w[1] * q + w[2] * r + w[3] * s;
    }
}

/// From CIE f(Y), a and b to chroma codes, for one picture's primaries, matrix, range and depth.
struct Codes {
    /// Linear R, G, B minus Y, from (X - Y, Z - Y): X, Y, Z relative to white, so grey has neither.
    rgb: [[f32; 2]; 3],
    /// Cb code steps per (R' - G', B' - G').
    cb: [f32; 2],
    /// Cr code steps per (R' - G', B' - G').
    cr: [f32; 2],
    neutral: f32,
    last: f32,
}

impl Codes {
    fn new(sampling: &Sampling) -> Self {
        let steps = (1u32 << sampling.depth) as f32;
        let scale = match sampling.range {
            Range::Limited => steps * 224.0 / 256.0,
            Range::Full => steps - 1.0,
        };
        let (kr, kb) = (sampling.matrix.kr, sampling.matrix.kb);
        // Cb = (B' - Y') / (2 (1 - kb)), Y' = G' + kr (R' - G') + kb (B' - G'); Cr likewise (ITU-R BT.601, 709, 2020).
        Self {
            rgb: rgb_from_xz(&sampling.primaries),
            cb: [-scale * kr / (2.0 * (1.0 - kb)), scale / 2.0],
            cr: [scale / 2.0, -scale * kb / (2.0 * (1.0 - kr))],
            neutral: steps / 2.0,
            last: steps - 1.0,
        }
    }

    /// Linear R, G, B of a Lab colour, mixed with the grey (Y, Y, Y) of its own luminance as far as it takes to lie
    /// between 0 and 1. Y, and so L, stays what it is.
    #[inline(always)]
    fn linear(&self, fy: f32, a: f32, b: f32) -> [f32; 3] {
        let y = lab_f_inverse(fy);
        let x = lab_f_inverse(fy + a * (1.0 / 500.0)) - y;
        let z = lab_f_inverse(fy - b * (1.0 / 200.0)) - y;
        let d = self.rgb.map(|m| m[0] * x + m[1] * z);
        let most = max(max(d[0], d[1]), max(d[2], 1e-6));
        let least = min(min(d[0], d[1]), min(d[2], -1e-6));
        let keep = min(min((1.0 - y) / most, y / -least), 1.0);
        d.map(|d| y + keep * d)
    }

    /// Chroma codes of a Lab colour. a = b = 0 is exactly neutral: every difference is then an exact zero.
    #[inline(always)]
    fn of(&self, fy: f32, a: f32, b: f32) -> [u32; 2] {
        let [r, g, b] = self.linear(fy, a, b).map(srgb_from_linear);
        let (r, b) = (r - g, b - g);
        [self.cb, self.cr].map(|c| {
            let code = self.neutral + (c[0] * r + c[1] * b);
            round(max(min(code, self.last), 0.0))
        })
    }
}

/// A row of chroma codes from rows of (f(Y), a, b).
fn paint_row<const N: usize, C: Code<N>>(
    codes: &Codes,
    [fy, a, b]: [&[f32]; 3],
    cb: &mut [C],
    cr: &mut [C],
) {
    for ((((cb, cr), fy), a), b) in cb.iter_mut().zip(cr).zip(fy).zip(a).zip(b) {
        let [blue, red] = codes.of(*fy, *a, *b);
        *cb = C::from_code(blue);
        *cr = C::from_code(red);
    }
}

/// Comparisons that are one instruction each; `f32::max` also has rules for NaN.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The nearest integer of 0..2^23, by letting the addition shift the fraction out of the mantissa.
#[inline(always)]
fn round(v: f32) -> u32 {
    const ONE_PER_STEP: f32 = (1u32 << 23) as f32;
    (v + ONE_PER_STEP).to_bits() - ONE_PER_STEP.to_bits()
}

/// [`super::lab_f_inverse`] as a select.
#[inline(always)]
fn lab_f_inverse(t: f32) -> f32 {
    let line = 3.0 * DELTA * DELTA * (t - 4.0 / 29.0);
    let cube = t * t * t;
    if t > DELTA { cube } else { line }
}

/// [`super::srgb_from_linear`] of 0..1, within 7e-6: a polynomial in the fourth root (minimax of degree 5 on
/// 0.0031308..1, fitted by tests/golden/gamma.py), in which the curve's power 1/2.4 is a gentle 5/3.
#[inline(always)]
fn srgb_from_linear(v: f32) -> f32 {
    let v = max(v, 0.0);
    let u = v.sqrt().sqrt();
    let curve = ((((-0.068_147_34 * u + 0.289_533_13) * u - 0.577_482_9) * u + 1.255_404_5) * u
        + 0.162_026_23)
        * u
        - 0.061_340_21;
    if v > 0.003_130_8 { curve } else { 12.92 * v }
}

/// Linear R, G, B minus Y from (X - Y, Z - Y), relative to white. The columns of RGB -> XYZ are the primaries' xyz,
/// scaled to add up to white (SMPTE RP 177); each row of the inverse then sums to one in units of white, and its
/// middle, what Y adds, need not be known.
fn rgb_from_xz(p: &Primaries) -> [[f32; 2]; 3] {
    let white = super::WHITE.map(f64::from);
    let xyz = |[x, y]: [f64; 2]| [x / y, 1.0, (1.0 - x - y) / y];
    let columns = [p.r, p.g, p.b].map(|c| xyz(c.map(f64::from)));
    let inverse = inverted(columns);
    let amounts = inverse.map(|row| (0..3).map(|i| row[i] * white[i]).sum::<f64>());
    std::array::from_fn(|i| [0, 2].map(|j| (inverse[i][j] * white[j] / amounts[i]) as f32))
}

/// The inverse, by rows, of the matrix with these columns: cross products over the determinant.
fn inverted([r, g, b]: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cross = |u: [f64; 3], v: [f64; 3]| {
        std::array::from_fn(|i| u[(i + 1) % 3] * v[(i + 2) % 3] - u[(i + 2) % 3] * v[(i + 1) % 3])
    };
    let dot = |u: [f64; 3], v: [f64; 3]| u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    let rows = [cross(g, b), cross(b, r), cross(r, g)];
    let determinant = dot(r, rows[0]);
    rows.map(|row| row.map(|v| v / determinant))
}

#[cfg(test)]
mod tests;
