//! The village: sky, hills, meadow, path, trees, a house and a fence, seen through a simple camera.
//!
//! Metres: x to the right, y up, z away from the camera. What does not move is painted once a shot; the sky is kept
//! apart, because its clouds drift.

use crate::paint::{Canvas, Cloth, Dice, cloudy, hash, noise, step};

/// Where a shot is taken from and in which light.
#[derive(Clone, Copy)]
pub struct Camera {
    pub x: f32,
    pub height: f32,
    /// Pixels a metre at a distance of one metre.
    pub focal: f32,
    /// Row of the horizon.
    pub horizon: f32,
    pub width: f32,
    /// 0: high sun; 1: the sun is low, stands in the picture, and the land lies darker.
    pub evening: f32,
}

impl Camera {
    /// Pixel position, and pixels a metre there.
    pub fn project(&self, x: f32, y: f32, z: f32) -> ((f32, f32), f32) {
        let scale = self.focal / z;
        let column = self.width / 2.0 + (x - self.x) * scale;
        ((column, self.horizon + (self.height - y) * scale), scale)
    }

    /// The ray through a pixel, as metres right and up for each metre of depth.
    fn ray(&self, px: f32, py: f32) -> (f32, f32) {
        let right = (px - self.width / 2.0) / self.focal;
        (right, (self.horizon - py) / self.focal)
    }

    /// Air between us and a thing at depth `z` makes it paler.
    pub fn haze(&self, tone: f32, z: f32) -> f32 {
        let air = 1.0 - (-z / 260.0).exp();
        let tone = tone * (1.0 - 0.2 * self.evening);
        tone + (0.80 - 0.1 * self.evening - tone) * air
    }
}

/// The middle of the path at depth `z`.
pub fn path_x(z: f32) -> f32 {
    1.2 + 3.2 * (z * 0.055).sin() - 0.02 * z
}

/// The sky at `time` seconds, painted above the horizon.
pub fn sky(canvas: &mut Canvas, camera: &Camera, time: f32) {
    let bounds = [0.0, 0.0, camera.width, camera.horizon + 4.0];
    let sun = (camera.width * 0.24, camera.horizon - 240.0);
    canvas.paint(bounds, |x, y| {
        let height = (camera.horizon - y).max(0.0) + 70.0;
        let clear = 0.90 - 0.22 * step(0.0, 420.0, height - 70.0) - 0.12 * camera.evening;
        let (u, v) = ((x - camera.width / 2.0) / height, 520.0 / height);
        let drift = time * 0.035;
        let bank = cloudy(u * 2.1 + drift, v * 1.6, 6, 40);
        let cover = step(0.52, 0.66, bank);
        let relief = cloudy(u * 2.1 + drift + 0.08, v * 1.6 + 0.07, 6, 40) - bank;
        let cloud = (0.99 + 0.9 * relief).clamp(0.72, 1.04);
        let far = ((x - sun.0).powi(2) + (y - sun.1).powi(2)).sqrt();
        let glow = camera.evening * (0.45 * (-far / 90.0).exp() + step(34.0, 28.0, far));
        Some((clear + (cloud - clear) * cover * 0.85 + glow, 1.0))
    });
}

/// Everything that stands still, with the sky left untouched above the skyline.
pub fn land(canvas: &mut Canvas, camera: &Camera, shot: &Shot) {
    hills(canvas, camera);
    forest(canvas, camera);
    ground(canvas, camera);
    let mut dice = Dice::new(9);
    // From far to near, so that what is nearer covers what is farther.
    let mut things: Vec<(f32, Thing)> = shot.things.to_vec();
    things.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut far = 60.0;
    for (z, thing) in things {
        grass(canvas, camera, (far, z), &mut dice);
        far = z;
        match thing {
            Thing::Tree { x, height, seed } => tree(canvas, camera, (x, z), height, seed),
            Thing::House { x } => house(canvas, camera, x, z),
            Thing::Fence { from, to } => fence(canvas, camera, (from, to), z),
        }
    }
    grass(canvas, camera, (far, 2.0), &mut dice);
}

/// A piece of the set, standing at some depth.
#[derive(Clone, Copy)]
pub enum Thing {
    Tree { x: f32, height: f32, seed: u64 },
    House { x: f32 },
    Fence { from: f32, to: f32 },
}

/// One camera position and what stands before it, as (depth, thing).
pub struct Shot {
    pub camera: Camera,
    pub things: &'static [(f32, Thing)],
}

fn hills(canvas: &mut Canvas, camera: &Camera) {
    for (layer, (rise, wave, tone, z)) in [
        (92.0, 420.0, 0.30, 420.0),
        (58.0, 300.0, 0.30, 260.0),
        (30.0, 240.0, 0.33, 150.0),
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 60 + 7 * layer as u32;
        let shift = camera.x * 6.0;
        let ridge = |x: f32| {
            camera.horizon - rise * (0.25 + 1.1 * cloudy((x + shift) / wave, 0.5, 4, seed))
        };
        let bounds = [
            0.0,
            camera.horizon - 2.0 * rise,
            camera.width,
            camera.horizon + 8.0,
        ];
        canvas.paint(bounds, |x, y| {
            let cover = y - ridge(x) + 0.5;
            let woods = step(
                0.45,
                0.6,
                cloudy((x + shift) / 60.0, y / 22.0, 4, seed + 20),
            );
            let grain = noise(x / 3.0, y / 3.0, seed + 30) - 0.5;
            let lit = (ridge(x + 12.0) - ridge(x - 12.0)) / 90.0;
            let tone = tone + 0.14 * (1.0 - woods) + 0.08 * grain + 0.3 * lit;
            (cover > 0.0).then(|| (camera.haze(tone, z), cover))
        });
    }
}

/// A row of far trees at the end of the meadow.
fn forest(canvas: &mut Canvas, camera: &Camera) {
    let mut dice = Dice::new(77);
    for _ in 0..260 {
        let z = dice.between(85.0, 120.0);
        let x = camera.x + dice.between(-85.0, 85.0);
        let gap = noise(x / 16.0, 3.0, 8) < 0.42;
        let height = if gap { 1.5 } else { dice.between(4.0, 8.5) };
        for _ in 0..110 {
            let dy = dice.unit() * 0.9;
            let dx = dice.between(-0.4, 0.4) * height * (1.0 - dy * dy).sqrt();
            let (at, scale) = camera.project(x + dx, dy * height, z);
            let tone = 0.13 + 0.16 * dy + 0.12 * dice.unit() - 0.05 * dx / height;
            let r = scale * height * dice.between(0.02, 0.055);
            canvas.ball(at, (r, r * 0.8), camera.haze(tone, z), 1.4);
        }
    }
}

fn ground(canvas: &mut Canvas, camera: &Camera) {
    let bounds = [0.0, camera.horizon, camera.width, canvas.height as f32];
    canvas.paint(bounds, |px, py| {
        let z = camera.focal * camera.height / (py - camera.horizon).max(0.3);
        let x = camera.x + (px - camera.width / 2.0) * z / camera.focal;
        let tone = earth(x, z.min(400.0));
        Some((camera.haze(tone, z), py - camera.horizon + 4.0))
    });
}

/// Meadow and path at a place of the ground.
fn earth(x: f32, z: f32) -> f32 {
    let fine = (1.0 - z / 60.0).max(0.0); // finer than a pixel farther away
    let patches = cloudy(x / 4.0, z / 6.0, 4, 21) - 0.5;
    let mown = 0.05 * step(0.45, 0.6, noise(x / 14.0, z / 30.0, 23));
    let blades = (noise(x * 14.0, z * 5.0, 22) - 0.5) * fine;
    let meadow = 0.43 + 0.22 * patches + 0.14 * blades + mown;
    let off = (x - path_x(z)).abs();
    let ragged = 1.15 + 0.35 * (cloudy(x * 0.9, z * 0.7, 3, 24) - 0.5) * 2.0;
    let ruts = 0.07 * (-((off - 0.6) / 0.2).powi(2)).exp();
    let pebbles = (noise(x * 22.0, z * 9.0, 25) - 0.5) * fine;
    let dirt = 0.70 + 0.16 * (cloudy(x, z, 4, 26) - 0.5) + 0.14 * pebbles - ruts;
    let on_path = step(ragged + 0.12, ragged - 0.12, off);
    meadow + (dirt - meadow) * on_path
}

/// Tufts and flowers between two depths, far ones first.
fn grass(canvas: &mut Canvas, camera: &Camera, (far, near): (f32, f32), dice: &mut Dice) {
    let mut z = far.min(30.0);
    while z > near {
        let half = z * camera.width / camera.focal * 0.55;
        for _ in 0..(90.0 + 10.0 * z) as usize {
            let x = camera.x + dice.between(-half, half);
            let (height, tilt) = (dice.between(0.03, 0.11), dice.between(-0.05, 0.05));
            let (shade, flower) = (dice.unit(), dice.unit());
            if (x - path_x(z)).abs() < 1.1 {
                continue;
            }
            let tone = camera.haze(earth(x, z) + 0.30 * (shade - 0.55), z);
            let (root, scale) = camera.project(x, 0.0, z);
            let (tip, _) = camera.project(x + tilt, height, z);
            let r = (0.006 * scale).max(0.35);
            canvas.rod(root, tip, (r, r * 0.4), Cloth::smooth(tone));
            if flower > 0.985 {
                canvas.ball(tip, (2.2 * r, 1.8 * r), 0.92, 1.0);
            }
        }
        z *= 0.985;
    }
}

/// A soft shadow on the ground, `reach` metres long to the right of what stands at (x, z).
pub fn shadow(canvas: &mut Canvas, camera: &Camera, (x, z): (f32, f32), width: f32, reach: f32) {
    let reach = reach * (1.0 + 0.8 * camera.evening);
    let ((cx, cy), scale) = camera.project(x + reach * 0.4, 0.0, z);
    let (rx, ry) = (
        (width + reach * 0.5) * scale,
        (width * 0.2 * scale).max(1.0),
    );
    canvas.paint([cx - rx, cy - ry, cx + rx, cy + ry], |px, py| {
        let d = ((px - cx) / rx).powi(2) + ((py - cy) / ry).powi(2);
        (d < 1.0).then(|| (0.12, 0.5 * (1.0 - d).powf(0.7)))
    });
}

fn tree(canvas: &mut Canvas, camera: &Camera, (x, z): (f32, f32), height: f32, seed: u64) {
    shadow(canvas, camera, (x, z), height * 0.25, height * 0.35);
    let mut dice = Dice::new(seed);
    let bark = Cloth::folded(camera.haze(0.24, z), 0.25);
    let (root, scale) = camera.project(x, -0.05, z);
    let (fork, _) = camera.project(x + 0.02 * height, height * 0.45, z);
    canvas.rod(
        root,
        fork,
        (0.035 * height * scale, 0.02 * height * scale),
        bark,
    );
    // A crown is a handful of clumps, a clump a few hundred leaf masses, painted from the dark inside outwards.
    let clumps: Vec<[f32; 4]> = (0..13)
        .map(|_| {
            let (across, up) = (dice.between(-0.26, 0.26), dice.between(0.42, 0.86));
            [
                across * (1.4 - up),
                up,
                dice.between(-0.2, 0.2),
                dice.between(0.09, 0.17),
            ]
        })
        .collect();
    for clump in &clumps {
        let (to, _) = camera.project(x + clump[0] * height, clump[1] * height, z);
        canvas.rod(
            fork,
            to,
            (0.012 * height * scale, 0.004 * height * scale),
            bark,
        );
    }
    for pass in 0..3 {
        for clump in &clumps {
            leaves(canvas, camera, (x, z, height), *clump, pass, &mut dice);
        }
    }
}

fn leaves(
    canvas: &mut Canvas,
    camera: &Camera,
    (x, z, height): (f32, f32, f32),
    [cx, cy, depth, radius]: [f32; 4],
    pass: usize,
    dice: &mut Dice,
) {
    let spread = radius * [1.05, 1.0, 0.85][pass];
    for _ in 0..[900, 900, 600][pass] {
        let angle = dice.between(0.0, std::f32::consts::TAU);
        let ragged = 0.75 + 0.45 * noise(angle * 3.5, cx * 40.0, 3);
        let r = spread * dice.unit().powf(0.6) * ragged;
        // Lit leaves lie towards the sun, upper left.
        let (u, v) = (angle.cos() * r, angle.sin() * r);
        let (u, v) = (
            u - 0.12 * radius * pass as f32,
            v + 0.16 * radius * pass as f32,
        );
        let light = ((v - u * 0.6) / radius * 0.5 + 0.5).clamp(0.0, 1.0);
        let tone = [0.10, 0.17, 0.25][pass] + 0.19 * light + 0.16 * dice.unit() - 0.1 * depth;
        let (at, scale) = camera.project(x + (cx + u) * height, (cy + v * 0.85) * height, z);
        let size = height * scale * dice.between(0.004, 0.009);
        let (dx, dy) = (dice.normal() * size, dice.between(-0.2, 1.0) * size);
        let leaf = Cloth::smooth(camera.haze(tone, z));
        canvas.rod(
            at,
            (at.0 + dx, at.1 + dy),
            (size.max(0.6), size * 0.4),
            leaf,
        );
    }
}

/// A cottage: the front and one side wall, a tiled roof, chimney, door, windows. Each surface is a plane that the
/// pixel's ray meets.
fn house(canvas: &mut Canvas, camera: &Camera, x0: f32, z0: f32) {
    let (wide, deep, eave, ridge) = (8.0, 6.0, 3.1, 5.4);
    shadow(canvas, camera, (x0 + wide / 2.0, z0), 5.5, 3.0);
    let bounds = [0.0, 0.0, camera.width, canvas.height as f32];
    let gable = |z: f32| eave + (ridge - eave) * (1.0 - ((z - z0) / (deep / 2.0) - 1.0).abs());
    // The side that can be seen: right of the house if the camera stands right of it.
    let side = if camera.x > x0 + wide / 2.0 {
        x0 + wide
    } else {
        x0
    };
    canvas.paint(bounds, |px, py| {
        let (right, up) = camera.ray(px, py);
        let z = (side - camera.x) / right;
        let y = camera.height + up * z;
        let hit = z > z0 && z < z0 + deep && y > 0.0 && y < gable(z);
        hit.then(|| (camera.haze(plaster(z - z0, y, 31) * 0.72, z), 1.0))
    });
    canvas.paint(bounds, |px, py| {
        let (right, up) = camera.ray(px, py);
        let (x, y) = (camera.x + right * z0 - x0, camera.height + up * z0);
        let hit = x > 0.0 && x < wide && y > 0.0 && y < eave;
        hit.then(|| (camera.haze(front(x, y), z0), 1.0))
    });
    chimney(canvas, camera, x0 + 6.0, z0 + deep / 2.0, ridge);
    canvas.paint(bounds, |px, py| {
        let (right, up) = camera.ray(px, py);
        // The front slope: y = eave - overhang .. ridge while z = z0 .. z0 + deep / 2.
        let slope = (ridge - eave) / (deep / 2.0);
        let z = (camera.height - eave + slope * z0) / (slope - up);
        let (x, along) = (camera.x + right * z - x0, z - z0);
        let hit = x > -0.35 && x < wide + 0.35 && along > -0.4 && along < deep / 2.0;
        hit.then(|| (camera.haze(tiles(x, along), z), 1.0))
    });
}

fn plaster(x: f32, y: f32, seed: u32) -> f32 {
    let stain = cloudy(x * 0.9, y * 1.3, 4, seed) - 0.5;
    let base = 0.16 * step(0.7, 0.3, y + 0.3 * stain); // damp near the ground
    0.80 + 0.16 * stain - base + 0.03 * (noise(x * 30.0, y * 30.0, seed) - 0.5)
}

fn tiles(x: f32, along: f32) -> f32 {
    let row = (along / 0.22).floor();
    let column = ((x + 0.12 * (row % 2.0)) / 0.24).floor();
    let lap = step(0.75, 1.0, (along / 0.22).fract());
    let moss = cloudy(x * 0.5, along * 0.8, 4, 35) - 0.5;
    0.38 + 0.10 * (hash(column as i32, row as i32, 34) - 0.5) - 0.13 * lap + 0.16 * moss
}

/// The front wall: a door, three windows with shutters, timber corners.
fn front(x: f32, y: f32) -> f32 {
    let beam = |d: f32| d.abs() < 0.09;
    let in_box = |cx: f32, cy: f32, w: f32, h: f32| (x - cx).abs() < w && (y - cy).abs() < h;
    if y > 2.98 {
        return 0.30; // under the eave
    }
    if in_box(3.9, 1.05, 0.5, 1.05) {
        let panel = in_box(3.9, 1.5, 0.32, 0.4) || in_box(3.9, 0.55, 0.32, 0.35);
        return 0.24 + if panel { 0.05 } else { 0.0 } + 0.04 * noise(x * 20.0, y * 2.0, 33);
    }
    if in_box(3.9, 1.08, 0.62, 1.12) {
        return 0.86;
    }
    for cx in [1.5, 6.3] {
        if in_box(cx, 1.6, 0.5, 0.62) {
            let bar = beam((x - cx) * 2.0) || beam((y - 1.6) * 2.0) || !in_box(cx, 1.6, 0.43, 0.55);
            let glass = 0.13 + 0.18 * step(0.4, 0.7, noise(x * 3.0 + y * 2.0, y, 37));
            return if bar { 0.88 } else { glass };
        }
        if in_box(cx, 1.6, 0.85, 0.66) {
            return 0.42 + 0.10 * step(0.5, 0.6, (y * 12.0).fract());
        }
        if in_box(cx, 0.86, 0.62, 0.13) {
            return if y > 0.86 {
                0.35 + 0.6 * noise(x * 16.0, y * 16.0, 38)
            } else {
                0.3
            };
        }
    }
    if beam(x - 0.1) || beam(x - 7.9) || beam(y - 2.7) {
        return 0.33 + 0.06 * noise(x * 8.0, y * 1.5, 39);
    }
    let damp_shade = 0.16 * step(2.4, 3.0, y);
    plaster(x, y, 32) - damp_shade
}

fn chimney(canvas: &mut Canvas, camera: &Camera, x: f32, z: f32, ridge: f32) {
    let ((left, top), scale) = camera.project(x, ridge + 0.9, z);
    let (right, bottom) = (left + 0.7 * scale, top + 1.6 * scale);
    canvas.paint([left, top, right, bottom], |px, py| {
        let (u, v) = ((px - left) / scale, (py - top) / scale);
        let brick = hash((u / 0.2) as i32, (v / 0.1) as i32, 41);
        let mortar = (v / 0.1).fract() < 0.2;
        let tone = if mortar { 0.5 } else { 0.32 + 0.12 * brick };
        Some((camera.haze(tone, z), 1.0))
    });
}

/// Smoke from the chimney of a house that stands at (x0, z0), as of `time`.
pub fn smoke(canvas: &mut Canvas, camera: &Camera, (x0, z0): (f32, f32), time: f32) {
    for puff in 0..46 {
        let age = (puff as f32 * 0.17 + time * 0.8) % 7.8;
        let wobble = noise(age * 0.9 + puff as f32 * 3.7, time * 0.3, 51) - 0.5;
        let (x, y) = (
            x0 + 6.35 + 0.35 * age + wobble * 0.2 * age,
            6.4 + 0.62 * age,
        );
        let (at, scale) = camera.project(x, y, z0 + 3.0);
        let r = (0.16 + 0.13 * age) * scale;
        canvas.paint([at.0 - r, at.1 - r, at.0 + r, at.1 + r], |px, py| {
            let d = ((px - at.0).powi(2) + (py - at.1).powi(2)).sqrt() / r;
            (d < 1.0).then(|| (0.86, 0.14 * (1.0 - d) * (1.0 - age / 7.8)))
        });
    }
}

fn fence(canvas: &mut Canvas, camera: &Camera, (from, to): (f32, f32), z: f32) {
    for y in [0.35, 0.8] {
        let (a, scale) = camera.project(from, y, z);
        let (b, _) = camera.project(to, y, z);
        canvas.rod(
            a,
            b,
            (0.035 * scale, 0.035 * scale),
            Cloth::folded(0.68, 0.0),
        );
    }
    for picket in 0..((to - from) / 0.19) as i32 {
        let x = from + 0.19 * picket as f32;
        let lean = 0.02 * (hash(picket, 0, 43) - 0.5);
        let (foot, scale) = camera.project(x, -0.02, z);
        let (head, _) = camera.project(x + lean, 1.02, z);
        let (tip, _) = camera.project(x + lean, 1.1, z);
        let white = Cloth::folded(0.80 + 0.1 * hash(picket, 1, 43), 0.0);
        canvas.rod(foot, head, (0.05 * scale, 0.05 * scale), white);
        canvas.rod(head, tip, (0.05 * scale, 0.005 * scale), white);
    }
}
