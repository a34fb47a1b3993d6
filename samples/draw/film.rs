//! What an old camera and an old print do to a picture: soft lens, vignette, flicker, gate weave, grain, dust and
//! a scratch now and then.

use crate::paint::{Canvas, Dice, cloudy, noise, step};

/// Exposes one frame: a scene at twice the size becomes `width` x `height` bytes of limited-range luma.
pub fn expose(scene: &Canvas, (width, height): (usize, usize), frame: usize) -> Vec<u8> {
    let time = frame as f32 / 24.0;
    let mut dice = Dice::new(1000 + frame as u64);
    // The gate lets the film wander slowly and jump a little from frame to frame, in scene pixels.
    let weave = (
        2.2 * (noise(time * 1.1, 0.0, 70) - 0.5) + 0.35 * dice.normal(),
        2.6 * (noise(time * 1.3, 9.0, 71) - 0.5) + 0.5 * dice.normal(),
    );
    let flicker = 1.0 + 0.05 * (noise(time * 7.0, 0.0, 72) - 0.5) + 0.008 * dice.normal();
    let mut picture = lens(scene, (width, height), weave);
    grain(&mut picture, &mut dice);
    dust(&mut picture, &mut dice, frame);
    let (cx, cy) = (width as f32 / 2.0, height as f32 / 2.0);
    let mut bytes = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = ((x as f32 - cx) / cx, (y as f32 - cy) / cy);
            let corner = 1.0 - 0.34 * step(0.55, 1.75, u * u + v * v);
            let tone = print(picture.tones[y * width + x] * corner * flicker);
            bytes.push((16.0 + 219.0 * tone + 0.5) as u8);
        }
    }
    bytes
}

/// The print's curve: blacks lifted, whites rolled off.
fn print(tone: f32) -> f32 {
    let t = tone.clamp(0.0, 1.08) / 1.08;
    let s = t * (1.0 - 0.18) + 0.18 * t * t * (3.0 - 2.0 * t);
    (0.035 + 0.94 * s * 1.06).clamp(0.0, 1.0)
}

/// Scene to picture at half the size, moved by the gate, a little soft.
fn lens(scene: &Canvas, (width, height): (usize, usize), (dx, dy): (f32, f32)) -> Canvas {
    let mut picture = Canvas::new(width, height);
    let at = |x: f32, y: f32| {
        let (ix, iy) = (x.floor(), y.floor());
        let (u, v) = (x - ix, y - iy);
        let tap = |i: f32, j: f32| {
            let column = (ix + i).clamp(0.0, scene.width as f32 - 1.0) as usize;
            let row = (iy + j).clamp(0.0, scene.height as f32 - 1.0) as usize;
            scene.tones[row * scene.width + column]
        };
        let top = tap(0.0, 0.0) * (1.0 - u) + tap(1.0, 0.0) * u;
        let bottom = tap(0.0, 1.0) * (1.0 - u) + tap(1.0, 1.0) * u;
        top * (1.0 - v) + bottom * v
    };
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = (2.0 * x as f32 + 0.5 + dx, 2.0 * y as f32 + 0.5 + dy);
            let sides = at(sx - 1.3, sy) + at(sx + 1.3, sy) + at(sx, sy - 1.3) + at(sx, sy + 1.3);
            picture.tones[y * width + x] = 0.4 * at(sx, sy) + 0.15 * sides;
        }
    }
    picture
}

/// Silver grain: strongest in the middle tones, a little larger than a pixel.
fn grain(picture: &mut Canvas, dice: &mut Dice) {
    let mut last_row = vec![0.0; picture.width];
    for row in picture.tones.chunks_mut(picture.width) {
        let mut left = 0.0;
        for (tone, above) in row.iter_mut().zip(&mut last_row) {
            let speck = dice.normal() + 0.45 * left + 0.45 * *above;
            (left, *above) = (speck * 0.6, speck * 0.6);
            *tone += speck * 0.018 * (0.5 + 2.0 * *tone * (1.0 - *tone).max(0.0));
        }
    }
}

fn dust(picture: &mut Canvas, dice: &mut Dice, frame: usize) {
    let (width, height) = (picture.width as f32, picture.height as f32);
    for _ in 0..(dice.unit() * 2.6) as usize {
        let (x, y) = (dice.between(0.0, width), dice.between(0.0, height));
        let tone = if dice.unit() < 0.7 { 0.08 } else { 0.95 };
        let (rx, ry) = (dice.between(0.6, 1.8), dice.between(0.6, 2.2));
        picture.ball((x, y), (rx, ry), tone, 1.0);
    }
    // One scratch wanders through about a third of the film.
    let time = frame as f32 / 24.0;
    let strength = 0.5 * step(0.55, 0.75, noise(time * 0.9, 3.0, 73));
    if strength > 0.0 {
        let x = width * (0.63 + 0.02 * (cloudy(time * 2.0, 1.0, 2, 74) - 0.5));
        picture.paint([x - 1.0, 0.0, x + 1.0, height], |px, py| {
            let broken = step(0.35, 0.6, noise(py / 90.0, time * 3.0, 75));
            Some((0.92, strength * broken * (1.0 - (px - x).abs()).max(0.0)))
        });
    }
}
