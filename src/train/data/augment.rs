//! Augment: what is done to pictures so that the network learns from films that do not look like photographs.
//!
//! Crops and mirrors change picture and truth together. All else is the look of old film and changes the lightness
//! that the network is given alone: the truth stays clean. Every kind of wear spares every second picture; the others
//! get a random amount of it, up to its strength.

use image::codecs::jpeg::JpegEncoder;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Stock;
use crate::error::{Error, Result};

/// Strengths of everything that is done to pictures. Where nothing else is said: 0 (off) to 1 (ruined).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Smallest crop, as a share of the picture's short side: above 0, at most 1, which is the largest.
    pub crop: f64,
    /// Whether every second picture is mirrored.
    pub mirror: bool,
    /// Factor on everything below: 0 shows the network true lightness.
    pub film: f64,
    /// Share of the pictures whose grey is a luma or a blue-heavy mix instead of true lightness.
    pub stocks: f64,
    /// Midtones too dark or too light.
    pub gamma: f64,
    /// Hard or flat prints.
    pub contrast: f64,
    /// Black gone grey and white gone dull.
    pub fade: f64,
    /// Grain, coarse or fine.
    pub grain: f64,
    /// Out of focus.
    pub blur: f64,
    /// Uneven exposure, as a frame of a flickering film has it: of the whole and in bands.
    pub flicker: f64,
    /// Vertical scratches, and dust.
    pub scratches: f64,
    /// Blocks and ringing of strong compression.
    pub jpeg: f64,
    /// Fields from two times: combs at upright edges.
    pub interlace: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            crop: 0.7,
            mirror: true,
            film: 1.,
            stocks: 0.5,
            gamma: 0.4,
            contrast: 0.4,
            fade: 0.4,
            grain: 0.4,
            blur: 0.4,
            flicker: 0.3,
            scratches: 0.3,
            jpeg: 0.3,
            interlace: 0.2,
        }
    }
}

impl Augment {
    /// # Errors
    /// [`Error::Usage`] naming the setting and its range.
    pub fn validate(&self) -> Result<()> {
        let range = |name: &str, value: f64, range: &str, fits: bool| match fits {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "augment.{name} {value} is not {range}"
            ))),
        };
        let crop = self.crop > 0. && self.crop <= 1.;
        range("crop", self.crop, "above 0 and at most 1", crop)?;
        let strengths = [("film", self.film), ("stocks", self.stocks)];
        let wear = WEAR.iter().map(|wear| (wear.name, (wear.strength)(self)));
        for (name, value) in strengths.into_iter().chain(wear) {
            range(name, value, "within 0..1", (0.0..=1.0).contains(&value))?;
        }
        Ok(())
    }

    /// The stock of one picture.
    pub(super) fn stock(&self, rng: &mut ChaCha8Rng) -> Stock {
        match rng.random_bool((self.film * self.stocks).clamp(0., 1.)) {
            true => Stock::random(rng),
            false => Stock::Ideal,
        }
    }

    /// Gives lightness of network units, row-major, `width` wide, the look of old film.
    pub(super) fn wear(&self, l: &mut [f32], width: usize, rng: &mut ChaCha8Rng) {
        if self.film == 0. {
            return;
        }
        l.iter_mut().for_each(|v| *v = (*v + 1.) / 2.);
        let mut plane = Plane { l, width };
        for wear in WEAR {
            let most = self.film * (wear.strength)(self);
            let spared: bool = rng.random();
            let amount = rng.random::<f32>() * most as f32;
            if !spared && amount > 0. {
                (wear.apply)(&mut plane, amount, rng);
            }
        }
        l.iter_mut().for_each(|v| *v = v.clamp(0., 1.) * 2. - 1.);
    }
}

/// A plane of lightness, 0 black to 1 white, row-major.
struct Plane<'a> {
    l: &'a mut [f32],
    width: usize,
}

/// One kind of wear: does nothing at amount 0, ruins the picture at 1.
struct Wear {
    name: &'static str,
    strength: fn(&Augment) -> f64,
    apply: fn(&mut Plane, f32, &mut ChaCha8Rng),
}

/// In the order in which a film meets them: lens, emulsion, projector, archive, video.
const WEAR: &[Wear] = &[
    Wear {
        name: "blur",
        strength: |a| a.blur,
        apply: blur,
    },
    Wear {
        name: "gamma",
        strength: |a| a.gamma,
        apply: gamma,
    },
    Wear {
        name: "contrast",
        strength: |a| a.contrast,
        apply: contrast,
    },
    Wear {
        name: "grain",
        strength: |a| a.grain,
        apply: grain,
    },
    Wear {
        name: "scratches",
        strength: |a| a.scratches,
        apply: scratches,
    },
    Wear {
        name: "fade",
        strength: |a| a.fade,
        apply: fade,
    },
    Wear {
        name: "flicker",
        strength: |a| a.flicker,
        apply: flicker,
    },
    Wear {
        name: "interlace",
        strength: |a| a.interlace,
        apply: interlace,
    },
    Wear {
        name: "jpeg",
        strength: |a| a.jpeg,
        apply: jpeg,
    },
];

impl Plane<'_> {
    fn height(&self) -> usize {
        self.l.len() / self.width
    }

    /// Every value by a curve on 0..1, looked up with straight lines between 256 points.
    fn map(&mut self, curve: impl Fn(f32) -> f32) {
        const POINTS: usize = 256;
        let points: Vec<f32> = (0..=POINTS + 1)
            .map(|i| curve((i as f32 / POINTS as f32).min(1.)))
            .collect();
        for v in self.l.iter_mut() {
            let x = v.clamp(0., 1.) * POINTS as f32;
            let i = x as usize;
            *v = points[i] + (points[i + 1] - points[i]) * (x - i as f32);
        }
    }

    /// Mixes every value with its neighbours: `side` of each of the two in its row, then in its column.
    fn soften(&mut self, side: f32) {
        let middle = 1. - 2. * side;
        for row in self.l.chunks_exact_mut(self.width) {
            let mut left = row[0];
            for x in 0..row.len() {
                let (v, right) = (row[x], row[(x + 1).min(row.len() - 1)]);
                row[x] = middle * v + side * (left + right);
                left = v;
            }
        }
        let mut above = self.l[..self.width].to_vec();
        for y in 0..self.height() {
            let (row, below) = self.l[y * self.width..].split_at_mut(self.width);
            for x in 0..self.width {
                let v = row[x];
                let next = below.get(x).copied().unwrap_or(v);
                row[x] = middle * v + side * (above[x] + next);
                above[x] = v;
            }
        }
    }
}

/// -1 to 1.
fn sway(rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(-1.0..=1.0)
}

/// -1 or 1.
fn sign(rng: &mut ChaCha8Rng) -> f32 {
    if rng.random() { 1. } else { -1. }
}

fn gamma(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let exponent = (sign(rng) * amount).exp();
    plane.map(|v| v.powf(exponent));
}

/// About a grey that is not always the middle; hard prints lose what is beyond black and white.
fn contrast(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let slope = (sign(rng) * amount).exp();
    let pivot = 0.5 + 0.15 * sway(rng);
    plane.map(|v| (pivot + (v - pivot) * slope).clamp(0., 1.));
}

fn fade(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let mut loss = |most: f32| amount * most * rng.random_range(0.4..=1.0);
    let (black, white) = (loss(0.45), 1. - loss(0.4));
    plane.map(|v| black + v * (white - black));
}

/// A variance of up to 4 square pixels, a half for every softening.
fn blur(plane: &mut Plane, amount: f32, _: &mut ChaCha8Rng) {
    let mut variance = 4. * amount * amount;
    while variance > 0. {
        plane.soften((variance / 2.).min(0.25));
        variance -= 0.5;
    }
}

/// Noise, strongest in the midtones; coarse grain is softened noise.
fn grain(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let mut bytes = vec![0; 4 * plane.l.len()];
    rng.fill_bytes(&mut bytes);
    // Four even bytes make nearly normal noise of this deviation.
    const DEVIATION: f32 = 147.8;
    let normal = |b: &[u8]| (b.iter().map(|b| i32::from(*b)).sum::<i32>() - 510) as f32 / DEVIATION;
    let mut noise: Vec<f32> = bytes.chunks_exact(4).map(normal).collect();
    let coarseness: f32 = rng.random_range(0.0..0.2);
    Plane {
        l: &mut noise,
        width: plane.width,
    }
    .soften(coarseness);
    // Softening takes from the deviation what the squares of its weights say, once a direction.
    let kept = (1. - 2. * coarseness).powi(2) + 2. * coarseness * coarseness;
    for (v, n) in plane.l.iter_mut().zip(noise) {
        let midtone = 0.4 + 2.4 * *v * (1. - *v);
        *v = (*v + 0.13 * amount * midtone * n / kept).clamp(0., 1.);
    }
}

fn scratches(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let (width, height) = (plane.width, plane.height());
    for _ in 0..1 + (5. * amount) as usize {
        let shade = sign(rng) * (0.2 + 0.6 * amount) * rng.random_range(0.5..=1.0);
        let (mut x, drift) = (rng.random_range(0.0..width as f32), 0.05 * sway(rng));
        let begin = rng.random_range(0..height) / 2;
        for y in begin..rng.random_range(begin..height).max(height / 2) {
            x += drift;
            if let Some(v) =
                (x >= 0. && x < width as f32).then(|| &mut plane.l[y * width + x as usize])
            {
                *v = (*v + shade).clamp(0., 1.);
            }
        }
    }
    for _ in 0..(14. * amount) as usize {
        let (radius, shade) = (rng.random_range(0.6..2.5), sign(rng) * (0.3 + 0.5 * amount));
        let at = (rng.random_range(0..width), rng.random_range(0..height));
        speck(plane, at, radius, shade);
    }
}

/// A round spot of dust.
fn speck(plane: &mut Plane, (x0, y0): (usize, usize), radius: f32, shade: f32) {
    let reach = radius.ceil() as usize;
    for y in y0.saturating_sub(reach)..(y0 + reach + 1).min(plane.height()) {
        for x in x0.saturating_sub(reach)..(x0 + reach + 1).min(plane.width) {
            let far = (x as f32 - x0 as f32).hypot(y as f32 - y0 as f32);
            if far <= radius {
                let v = &mut plane.l[y * plane.width + x];
                *v = (*v + shade).clamp(0., 1.);
            }
        }
    }
}

fn flicker(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let whole = 1. + 0.3 * amount * sway(rng);
    let (waves, phase) = (rng.random_range(0.4..2.5), sway(rng));
    let height = plane.height() as f32;
    for (y, row) in plane.l.chunks_exact_mut(plane.width).enumerate() {
        let angle = std::f32::consts::TAU * waves * y as f32 / height;
        let light = whole + 0.35 * amount * (angle + std::f32::consts::PI * phase).sin();
        row.iter_mut().for_each(|v| *v = (*v * light).clamp(0., 1.));
    }
}

/// The rows of the other field lie aside, as where the camera moved.
fn interlace(plane: &mut Plane, amount: f32, rng: &mut ChaCha8Rng) {
    let aside = (1. + 5. * amount).round() as usize;
    let to_the_left: bool = rng.random();
    let aside = aside.min(plane.width - 1);
    for row in plane.l.chunks_exact_mut(plane.width).skip(1).step_by(2) {
        let last = row.len() - 1;
        match to_the_left {
            true => {
                row.copy_within(aside.., 0);
                let edge = row[last];
                row[last - aside..].fill(edge);
            }
            false => {
                row.copy_within(..=last - aside, aside);
                let edge = row[0];
                row[..aside].fill(edge);
            }
        }
    }
}

/// Compressed and decompressed; left as it is where the codec refuses, which it has no reason to.
fn jpeg(plane: &mut Plane, amount: f32, _: &mut ChaCha8Rng) {
    let codes: Vec<u8> = plane.l.iter().map(|v| (v * 255. + 0.5) as u8).collect();
    let quality = (60. - 54. * amount) as u8;
    let (width, height) = (plane.width as u32, plane.height() as u32);
    let mut file = Vec::new();
    let grey = image::ExtendedColorType::L8;
    let coded =
        JpegEncoder::new_with_quality(&mut file, quality).encode(&codes, width, height, grey);
    if coded.is_ok()
        && let Ok(decoded) = image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg)
    {
        let decoded = decoded.into_luma8().into_raw();
        let pairs = plane.l.iter_mut().zip(decoded);
        pairs.for_each(|(v, code)| *v = f32::from(code) / 255.);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::params::stream;

    const SIDE: usize = 96;

    /// A drawn scene: sky, hills, a house with edges.
    fn scene() -> Vec<f32> {
        let shade = |x: usize, y: usize| {
            let hill = 60. + 12. * (x as f32 / 14.).sin();
            let house = (30..60).contains(&x) && (35..75).contains(&y);
            let window = (38..46).contains(&x) && (45..55).contains(&y);
            match (window, house) {
                (true, _) => 0.1,
                (_, true) => 0.75,
                _ if y as f32 > hill => 0.25 + 0.1 * ((x + y) as f32 / 5.).sin(),
                _ => 0.9 - 0.3 * y as f32 / SIDE as f32,
            }
        };
        (0..SIDE * SIDE)
            .map(|i| shade(i % SIDE, i / SIDE))
            .collect()
    }

    fn worn(wear: &Wear, amount: f32, seed: u64) -> Vec<f32> {
        let mut l = scene();
        let mut plane = Plane {
            l: &mut l,
            width: SIDE,
        };
        (wear.apply)(&mut plane, amount, &mut stream(seed, wear.name));
        l
    }

    fn difference(left: &[f32], right: &[f32]) -> f32 {
        let sum: f32 = left.iter().zip(right).map(|(l, r)| (l - r).powi(2)).sum();
        (sum / left.len() as f32).sqrt()
    }

    #[test]
    fn every_wear_is_seen_and_more_of_it_more_and_it_stays_in_range() {
        for wear in WEAR {
            let seeds = 0..16;
            let mean = |amount| {
                let changes = seeds.clone().map(|seed| {
                    let l = worn(wear, amount, seed);
                    assert!(l.iter().all(|v| (0.0..=1.0).contains(v)), "{}", wear.name);
                    difference(&l, &scene())
                });
                changes.sum::<f32>() / 16.
            };
            let (little, half, whole) = (mean(0.05), mean(0.5), mean(1.));
            assert!(
                little < half && half < whole,
                "{}: {little} {half} {whole}",
                wear.name
            );
            assert!(half > 0.02, "{}: {half} is hardly seen", wear.name);
        }
    }

    #[test]
    fn no_two_wears_do_the_same() {
        let change = |wear: &Wear| -> Vec<f32> {
            let l = worn(wear, 0.7, 1);
            l.iter().zip(scene()).map(|(l, s)| l - s).collect()
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for (i, one) in WEAR.iter().enumerate() {
            for other in &WEAR[..i] {
                let (a, b) = (change(one), change(other));
                let likeness = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
                assert!(
                    likeness.abs() < 0.98,
                    "{} is {}: {likeness}",
                    one.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn strengths_of_nothing_change_nothing() {
        let off = Augment {
            film: 0.,
            ..Augment::default()
        };
        let none = serde_json::from_str::<Augment>(
            r#"{"stocks":0,"gamma":0,"contrast":0,"fade":0,"grain":0,"blur":0,"flicker":0,"scratches":0,"jpeg":0,"interlace":0}"#,
        )
        .unwrap();
        for augment in [off, none] {
            let clean: Vec<f32> = scene().iter().map(|v| 2. * v - 1.).collect();
            for seed in 0..8 {
                let mut l = clean.clone();
                let mut rng = stream(seed, "off");
                assert_eq!(augment.stock(&mut rng), Stock::Ideal);
                augment.wear(&mut l, SIDE, &mut rng);
                assert!(difference(&l, &clean) < 1e-6);
            }
        }
    }

    #[test]
    fn strengths_out_of_range_are_refused_by_name() {
        Augment::default().validate().unwrap();
        for wrong in [
            r#"{"grain":1.5}"#,
            r#"{"film":-1}"#,
            r#"{"crop":0}"#,
            r#"{"jpeg":2}"#,
        ] {
            let augment: Augment = serde_json::from_str(wrong).unwrap();
            let error = augment.validate().unwrap_err().to_string();
            let name = wrong.split('"').nth(1).unwrap();
            assert!(error.contains(&format!("augment.{name}")), "{error}");
        }
        assert!(serde_json::from_str::<Augment>(r#"{"grian":0.1}"#).is_err());
    }
}
