//! A grey canvas, value noise and the three brushes that everything in the film is painted with.
//!
//! Tones are display values, 0 black to 1 white. Every random number comes from a hash of a position or from a
//! seeded generator, so that the same program always draws the same film.

/// A picture of tones, row-major.
#[derive(Clone)]
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub tones: Vec<f32>,
}

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            tones: vec![0.0; width * height],
        }
    }

    /// Runs `brush(x, y)` over a box of pixels; it answers the tone and how much of it covers the pixel.
    pub fn paint(
        &mut self,
        [left, top, right, bottom]: [f32; 4],
        brush: impl Fn(f32, f32) -> Option<(f32, f32)>,
    ) {
        let clip = |v: f32, most: usize| (v.max(0.0) as usize).min(most);
        for y in clip(top.floor(), self.height)..clip(bottom.ceil() + 1.0, self.height) {
            for x in clip(left.floor(), self.width)..clip(right.ceil() + 1.0, self.width) {
                if let Some((tone, cover)) = brush(x as f32 + 0.5, y as f32 + 0.5) {
                    let at = &mut self.tones[y * self.width + x];
                    *at += (tone - *at) * cover.clamp(0.0, 1.0);
                }
            }
        }
    }

    /// An upright ellipse lit like a ball from the upper left; `soft` widens its edge (1 is just smooth).
    pub fn ball(&mut self, (cx, cy): (f32, f32), (rx, ry): (f32, f32), tone: f32, soft: f32) {
        let edge = rx.min(ry).max(0.5);
        self.paint(
            [
                cx - rx - soft,
                cy - ry - soft,
                cx + rx + soft,
                cy + ry + soft,
            ],
            |x, y| {
                let (u, v) = ((x - cx) / rx.max(0.5), (y - cy) / ry.max(0.5));
                let d = (u * u + v * v).sqrt();
                let cover = ((1.0 - d) * edge / soft + 0.5).clamp(0.0, 1.0);
                (cover > 0.0).then_some((tone * (0.9 - 0.16 * u - 0.16 * v), cover))
            },
        );
    }

    /// A rod from `a` to `b` whose radius goes from `ra` to `rb`, lit as a round body; `folds` wrinkle it like
    /// cloth; `round` closes its ends with caps.
    pub fn rod(&mut self, a: (f32, f32), b: (f32, f32), (ra, rb): (f32, f32), cloth: Cloth) {
        let r = ra.max(rb) + 1.0;
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = (dx * dx + dy * dy).sqrt().max(1e-3);
        let (dx, dy) = (dx / length, dy / length);
        let bounds = [
            a.0.min(b.0) - r,
            a.1.min(b.1) - r,
            a.0.max(b.0) + r,
            a.1.max(b.1) + r,
        ];
        self.paint(bounds, |x, y| {
            let (px, py) = (x - a.0, y - a.1);
            let along = px * dx + py * dy;
            let across = px * -dy + py * dx;
            let t = (along / length).clamp(0.0, 1.0);
            let radius = ra + (rb - ra) * t;
            let beyond = if cloth.round {
                (along - t * length).abs()
            } else {
                0.0
            };
            let inside = radius - (across * across + beyond * beyond).sqrt();
            let ends = if cloth.round {
                1.0
            } else {
                (along.min(length - along) + 0.5).clamp(0.0, 1.0)
            };
            let cover = (inside + 0.5).clamp(0.0, 1.0) * ends;
            (cover > 0.0).then(|| (cloth.tone_at(across / radius.max(0.5), t, (dx, dy)), cover))
        });
    }
}

/// How the surface of a rod looks.
#[derive(Clone, Copy)]
pub struct Cloth {
    pub tone: f32,
    /// Strength of the wrinkles that run along the rod, 0 for skin and wood.
    pub folds: f32,
    pub round: bool,
}

impl Cloth {
    pub fn smooth(tone: f32) -> Self {
        Self {
            tone,
            folds: 0.0,
            round: true,
        }
    }

    pub fn folded(tone: f32, folds: f32) -> Self {
        Self {
            tone,
            folds,
            round: false,
        }
    }

    /// Cloth that goes round a limb and closes its ends.
    pub fn worn(tone: f32, folds: f32) -> Self {
        Self {
            tone,
            folds,
            round: true,
        }
    }

    /// `u` is -1 to 1 across the rod, `t` 0 to 1 along it; light comes from the upper left.
    fn tone_at(&self, u: f32, t: f32, (dx, dy): (f32, f32)) -> f32 {
        let facing = -(u * -dy) * 0.8 - (u * dx) * 0.6; // the surface normal against the light
        let fold = (u * 9.0 + 4.0 * noise(u * 2.0, t * 3.0, 5)).sin() * (0.3 + t) * self.folds;
        self.tone * (0.94 + 0.22 * facing - 0.14 * u * u + fold)
    }
}

/// A number in 0..1 that only depends on where it is asked for.
pub fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77)
        ^ seed.wrapping_mul(0xC2B2_AE3D);
    for shift in [15, 13, 16] {
        h = (h ^ (h >> shift)).wrapping_mul(0x2C1B_3C6D);
    }
    (h >> 8) as f32 / (1u32 << 24) as f32
}

/// Smooth noise in 0..1 with a grain of one unit.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (ix, iy) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - ix), ease(y - iy));
    let at = |dx, dy| hash(ix as i32 + dx, iy as i32 + dy, seed);
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * u;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * u;
    top + (bottom - top) * v
}

/// Several octaves of [`noise`]: clouds, foliage, earth.
pub fn cloudy(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for octave in 0..octaves {
        let scale = (1 << octave) as f32;
        // Turned a little from octave to octave, or the grid would show.
        let (x, y) = (x * 0.8 - y * 0.6, x * 0.6 + y * 0.8);
        sum += noise(x * scale + 17.3 * scale, y * scale, seed + octave) / scale;
        weight += 1.0 / scale;
    }
    sum / weight
}

/// A seeded generator (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1u32 << 24) as f32
    }

    /// In `low..high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Roughly normal, mean 0, deviation 1.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.unit() - 0.5).sum::<f32>() * 1.732
    }
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
