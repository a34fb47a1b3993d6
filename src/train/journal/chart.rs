//! Curves over steps: panels of one picture, each with its axes, numbers and names.

use std::ops::Range;

use image::{GenericImage, Rgb, RgbImage};

use super::canvas::{self, Anchor, Colour, Pen, TEXT};

/// One curve: a name, and numbers over steps.
pub(super) struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Curves that share their axes.
pub(super) struct Panel {
    pub title: String,
    /// Whether the numbers are so noisy that many of them want smoothing.
    pub noisy: bool,
    pub series: Vec<Series>,
}

const WIDTH: i32 = 720;
const HEIGHT: i32 = 380;
/// Left of the curves, for the numbers; right of them.
const LEFT: i32 = 84;
const RIGHT: i32 = 28;
/// Below the curves, for the steps.
const BELOW: i32 = 52;
const GAP: i32 = 8;

const WHITE: Colour = [255; 3];
const INK: Colour = [40; 3];
const GRID: Colour = [224; 3];
/// Okabe and Ito's colours, which people of any colour vision tell apart, without yellow and black.
const COLOURS: [Colour; 6] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
];

/// All panels, two in a row.
pub(super) fn draw(panels: &[Panel]) -> RgbImage {
    let across = panels.len().clamp(1, 2) as u32;
    let down = (panels.len() as u32).div_ceil(across).max(1);
    let (width, height) = (WIDTH as u32, HEIGHT as u32);
    let mut image = RgbImage::from_pixel(across * width, down * height, Rgb(WHITE));
    let steps = range(panels.iter().flat_map(|p| &p.series), |p| p.0);
    for (i, panel) in (0..).zip(panels) {
        // The room is there: the size was computed from the number of panels.
        let _ = image.copy_from(&panel.draw(steps), i % across * width, i / across * height);
    }
    image
}

impl Panel {
    fn draw(&self, steps: (f64, f64)) -> RgbImage {
        let mut image = RgbImage::from_pixel(WIDTH as u32, HEIGHT as u32, Rgb(WHITE));
        let above = self.head(&mut image);
        let plot = Plot {
            x: Axis::new(steps, false, LEFT..WIDTH - RIGHT),
            y: self.vertical(HEIGHT - BELOW..above),
        };
        plot.grid(&mut image);
        for (i, series) in self.series.iter().enumerate() {
            plot.curve(&mut image, &series.points, self.noisy, pen(i));
        }
        image
    }

    /// Title and legend; gives where the curves may begin. A single curve is named by the title.
    fn head(&self, image: &mut RgbImage) -> i32 {
        const SAMPLE: i32 = 22;
        let (mut x, mut y) = (LEFT, GAP);
        canvas::text(image, (x, y), Anchor::Left, INK, &self.title);
        x += canvas::width_of(&self.title) + 3 * GAP;
        let several = self.series.len() > 1;
        for (i, series) in self.series.iter().enumerate().filter(|_| several) {
            let width = SAMPLE + GAP + canvas::width_of(&series.name);
            if x + width > WIDTH - RIGHT {
                (x, y) = (LEFT, y + TEXT + GAP / 2);
            }
            let middle = (y + TEXT / 2) as f32;
            let sample = [(x as f32, middle), ((x + SAMPLE) as f32, middle)];
            canvas::line(image, &sample, pen(i));
            let at = (x + SAMPLE + GAP, y);
            canvas::text(image, at, Anchor::Left, INK, &series.name);
            x += width + 2 * GAP;
        }
        y + TEXT + GAP
    }

    /// The numbers' axis: logarithmic for several positive curves of which some are many times the others.
    fn vertical(&self, pixels: Range<i32>) -> Axis {
        const MANY: f64 = 12.;
        let (least, most) = range(&self.series, |p| p.1);
        let logarithmic = self.series.len() > 1 && least > 0. && most / least > MANY;
        Axis::new((least, most), logarithmic, pixels)
    }
}

/// Least and greatest.
fn range<'a>(
    series: impl IntoIterator<Item = &'a Series>,
    of: fn(&(f64, f64)) -> f64,
) -> (f64, f64) {
    let values = series.into_iter().flat_map(|s| &s.points).map(of);
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| {
        (least.min(v), most.max(v))
    })
}

fn pen(index: usize) -> Pen {
    Pen {
        colour: COLOURS[index % COLOURS.len()],
        width: 2.2,
        opacity: 1.,
        dashed: index >= COLOURS.len(),
    }
}

/// Numbers along one side of a plot.
struct Axis {
    /// Least and greatest, as logarithms where the axis is logarithmic.
    range: (f64, f64),
    logarithmic: bool,
    /// Where they are drawn; the start may be greater than the end.
    pixels: Range<i32>,
}

impl Axis {
    fn new((least, most): (f64, f64), logarithmic: bool, pixels: Range<i32>) -> Self {
        let (least, most) = match (least <= most, logarithmic) {
            (false, _) => (0., 1.),
            (true, false) => (least, most),
            (true, true) => (least.log10(), most.log10()),
        };
        // A curve that is flat or one point lies in the middle.
        let room = match most - least {
            0. => (0.05 * least.abs()).max(1e-6),
            span => 0.04 * span,
        };
        Self {
            range: (least - room, most + room),
            logarithmic,
            pixels,
        }
    }

    fn at(&self, value: f64) -> f32 {
        let value = if self.logarithmic {
            value.log10()
        } else {
            value
        };
        let share = (value - self.range.0) / (self.range.1 - self.range.0);
        let (from, to) = (f64::from(self.pixels.start), f64::from(self.pixels.end));
        (from + share * (to - from)) as f32
    }

    /// Round numbers along the axis, and how they are written.
    fn ticks(&self) -> Vec<(f64, String)> {
        let (least, most) = self.range;
        if self.logarithmic {
            return decades(least, most);
        }
        let step = round_step((most - least) / 6.);
        let count = ((most / step).floor() - (least / step).ceil()) as i64;
        let ticks = (0..=count).map(|i| ((least / step).ceil() + i as f64) * step);
        ticks.map(|v| (v, number(v, step))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, not less than `about`.
fn round_step(about: f64) -> f64 {
    let power = 10f64.powf(about.log10().floor());
    let factor = [1., 2., 5.].into_iter().find(|f| f * power >= about);
    factor.unwrap_or(10.) * power
}

/// Round numbers between two logarithms: 1, 2 and 5 of each decade, or powers of ten where these are many.
fn decades(least: f64, most: f64) -> Vec<(f64, String)> {
    let factors: &[f64] = match most - least < 2.5 {
        true => &[1., 2., 5.],
        false => &[1.],
    };
    let powers = least.floor() as i32..=most.floor() as i32;
    let values =
        powers.flat_map(|power| factors.iter().map(move |f| (f * 10f64.powi(power), power)));
    let within = values.filter(|(v, _)| (least..=most).contains(&v.log10()));
    within
        .map(|(v, power)| (v, number(v, 10f64.powi(power))))
        .collect()
}

/// A number with as many decimals as its distance to the next one asks for.
fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.) as usize;
    match (value.abs(), decimals) {
        (0., _) => "0".into(),
        (size, 5..) => {
            let digits = (size.log10().floor() - step.log10().floor()).max(0.) as usize;
            format!("{value:.digits$e}").replace(".0e", "e")
        }
        (1e6.., _) if step >= 1e5 => format!("{}M", value / 1e6),
        (1e4.., _) if step >= 1e3 => format!("{}k", value / 1e3),
        _ => format!("{value:.decimals$}"),
    }
}

/// Two axes and what is between them.
struct Plot {
    x: Axis,
    y: Axis,
}

impl Plot {
    fn grid(&self, image: &mut RgbImage) {
        let (left, right) = (self.x.pixels.start, self.x.pixels.end);
        let (bottom, top) = (self.y.pixels.start, self.y.pixels.end);
        for (value, words) in self.y.ticks() {
            let y = self.y.at(value) as i32;
            canvas::fill(image, (left, y), (right - left, 1), GRID);
            let at = (left - GAP, y - TEXT / 2);
            canvas::text(image, at, Anchor::Right, INK, &words);
        }
        for (value, words) in self.x.ticks() {
            let x = self.x.at(value) as i32;
            canvas::fill(image, (x, top), (1, bottom - top), GRID);
            let at = (x, bottom + GAP);
            canvas::text(image, at, Anchor::Middle, INK, &words);
        }
        canvas::fill(image, (left, bottom), (right - left, 1), INK);
        canvas::fill(image, (left, top), (1, bottom - top), INK);
        let at = ((left + right) / 2, bottom + GAP + TEXT + 2);
        canvas::text(image, at, Anchor::Middle, INK, "step");
    }

    /// Few numbers: each a dot. Many: a curve; where they are noisy pale, under the smoothed one.
    fn curve(&self, image: &mut RgbImage, points: &[(f64, f64)], noisy: bool, pen: Pen) {
        const FEW: usize = 40;
        let place = |points: &[(f64, f64)]| -> Vec<(f32, f32)> {
            let places = points.iter().map(|(x, y)| (self.x.at(*x), self.y.at(*y)));
            places.collect()
        };
        if points.len() < FEW {
            let places = place(points);
            canvas::line(image, &places, pen);
            for at in places {
                canvas::dot(image, at, 3.5, pen.colour);
            }
            return;
        }
        let raw = thinned(points);
        if !noisy {
            canvas::line(image, &place(&raw), pen);
            return;
        }
        let pale = Pen {
            width: 1.,
            opacity: 0.35,
            dashed: false,
            ..pen
        };
        canvas::line(image, &place(&raw), pale);
        canvas::line(image, &place(&smoothed(&raw)), pen);
    }
}

/// At most as many points as there are pixels: means of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const MOST: usize = (WIDTH - LEFT - RIGHT) as usize;
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0., 0.), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    let groups = points.chunks(points.len().div_ceil(MOST).max(1));
    groups.map(mean).collect()
}

/// The curve smoothed without a lag: at each point the straight line that fits its neighbours best, with a bell's
/// weights.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let spread = points.len() as f64 / 50.;
    let reach = (3. * spread) as usize;
    let fit = |i: usize| {
        let first = i.saturating_sub(reach);
        let near = &points[first..(i + reach + 1).min(points.len())];
        // Weighted sums of 1, x, y, x x and x y, x from the point itself.
        let sums = near.iter().enumerate().fold([0.; 5], |sums, (j, (_, y))| {
            let x = (first + j) as f64 - i as f64;
            let weight = (-0.5 * (x / spread).powi(2)).exp();
            let terms = [1., x, *y, x * x, x * y];
            std::array::from_fn(|k| sums[k] + weight * terms[k])
        });
        let [n, x, y, xx, xy] = sums;
        (points[i].0, (xx * y - x * xy) / (n * xx - x * x))
    };
    (0..points.len()).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(range: (f64, f64), logarithmic: bool) -> Vec<String> {
        let axis = Axis::new(range, logarithmic, 0..500);
        axis.ticks().into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            ticks((0., 1.), false),
            ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            ticks((0., 100_000.), false),
            ["0", "20k", "40k", "60k", "80k", "100k"]
        );
        assert_eq!(ticks((-3., 3.), false), ["-2", "0", "2"]);
        assert_eq!(
            ticks((0., 2e-6), false),
            ["0", "5e-7", "1e-6", "1.5e-6", "2e-6"]
        );
        assert_eq!(ticks((0.03, 1.5), true), ["0.05", "0.1", "0.2", "0.5", "1"]);
        assert_eq!(
            ticks((0.001, 1000.), true),
            ["0.001", "0.01", "0.1", "1", "10", "100", "1000"]
        );
    }

    /// No number is there twice, none is missing, and all are where the axis is, whatever its range.
    #[test]
    fn every_axis_has_ticks_that_differ() {
        for exponent in -9..9 {
            for span in [0.07, 1.3, 9.9] {
                let least = 10f64.powi(exponent);
                let axis = Axis::new((least, least * (1. + span)), false, 20..400);
                let ticks = axis.ticks();
                let words: std::collections::BTreeSet<_> = ticks.iter().map(|t| &t.1).collect();
                assert!((2..12).contains(&ticks.len()), "{least} {span}: {ticks:?}");
                assert_eq!(words.len(), ticks.len(), "{least} {span}: {ticks:?}");
                assert!(ticks.iter().all(|t| (19.9..400.1).contains(&axis.at(t.0))));
            }
        }
        assert!(!ticks((5., 5.), false).is_empty(), "a flat curve");
        assert!(
            !ticks((f64::INFINITY, f64::NEG_INFINITY), false).is_empty(),
            "no curve"
        );
    }

    #[test]
    fn smoothing_takes_noise_away_and_leaves_a_slope() {
        let slope = |x: f64| 5. - 0.01 * x;
        let noisy = |x: f64| (x, slope(x) + (x * 12.9898).sin());
        let points: Vec<_> = (0..400).map(|i| noisy(f64::from(i))).collect();
        // At the ends there are fewer neighbours to average.
        for (x, y) in &smoothed(&points)[20..380] {
            let (x, y) = (*x, *y);
            assert!((y - slope(x)).abs() < 0.35, "{x}: {y}, not {}", slope(x));
        }
        let straight: Vec<_> = (0..100)
            .map(|i| (f64::from(i), slope(f64::from(i))))
            .collect();
        for ((_, a), (_, b)) in smoothed(&straight).iter().zip(&straight) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        assert!(thinned(&vec![(1., 2.); 100_000]).len() <= (WIDTH - LEFT - RIGHT) as usize);
    }
}
