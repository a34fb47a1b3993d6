//! The people and the dog: jointed figures of rods and balls that walk across the set.
//!
//! A figure is described in its own metres (x forward, y up from the ground between its feet) and mirrored when it
//! walks to the left.

use crate::paint::{Canvas, Cloth, noise};
use crate::scene::{Camera, shadow};
use std::f32::consts::{PI, TAU};

/// Who walks.
#[derive(Clone, Copy)]
pub enum Who {
    Woman,
    Man,
    Boy,
    Dog,
}

/// Where somebody is, where he goes and how far into his step he is.
#[derive(Clone, Copy)]
pub struct Walker {
    pub who: Who,
    pub x: f32,
    pub z: f32,
    /// Metres a second along x; the sign is the direction. 0 stands still.
    pub speed: f32,
    /// Stands with a raised arm.
    pub waves: bool,
}

impl Walker {
    /// The same walker `time` seconds later.
    pub fn after(self, time: f32) -> Self {
        Self {
            x: self.x + self.speed * time,
            ..self
        }
    }

    pub fn draw(self, canvas: &mut Canvas, camera: &Camera, time: f32) {
        let height = self.height();
        shadow(
            canvas,
            camera,
            (self.x, self.z),
            0.22 * height,
            0.7 * height,
        );
        let stride = match self.who {
            Who::Dog => 0.75,
            _ => 0.85 * height,
        };
        let mut body = Body {
            canvas,
            camera,
            x: self.x,
            z: self.z,
            lift: 0.0,
            forward: if self.speed < 0.0 { -1.0 } else { 1.0 },
            phase: self.x.abs() / stride * PI,
            moving: if self.speed == 0.0 { 0.0 } else { 1.0 },
            time,
            raised: self.waves,
        };
        match self.who {
            Who::Woman => body.woman(),
            Who::Man => body.man(height),
            Who::Boy => body.boy(height),
            Who::Dog => body.dog(),
        }
    }

    fn height(self) -> f32 {
        match self.who {
            Who::Woman => 1.64,
            Who::Man => 1.78,
            Who::Boy => 1.22,
            Who::Dog => 0.55,
        }
    }
}

type Point = (f32, f32);

/// A figure being painted.
struct Body<'a> {
    canvas: &'a mut Canvas,
    camera: &'a Camera,
    x: f32,
    z: f32,
    /// Metres that the whole body is off the ground: people bob as they walk.
    lift: f32,
    forward: f32,
    phase: f32,
    moving: f32,
    time: f32,
    raised: bool,
}

const SKIN: f32 = 0.76;

impl Body<'_> {
    fn at(&self, (x, y): Point) -> (Point, f32) {
        self.camera
            .project(self.x + x * self.forward, y + self.lift, self.z)
    }

    fn rod(&mut self, a: Point, b: Point, (ra, rb): (f32, f32), cloth: Cloth) {
        let ((a, scale), (b, _)) = (self.at(a), self.at(b));
        let tone = self.camera.haze(cloth.tone, self.z);
        self.canvas
            .rod(a, b, (ra * scale, rb * scale), Cloth { tone, ..cloth });
    }

    fn ball(&mut self, center: Point, (rx, ry): (f32, f32), tone: f32) {
        let (center, scale) = self.at(center);
        let tone = self.camera.haze(tone, self.z);
        self.canvas
            .ball(center, (rx * scale, ry * scale), tone, 1.2);
    }

    fn smooth(&mut self, points: &[Point], r: f32, tone: f32) {
        for pair in points.windows(2) {
            self.rod(pair[0], pair[1], (r, r), Cloth::smooth(tone));
        }
    }

    /// Hip, knee and foot of one leg (`side` 0 or 1) of length `leg`; `gait` 1 strides out.
    fn leg(&self, hip: Point, leg: f32, gait: f32, side: usize) -> [Point; 3] {
        let swing = (self.phase + PI * side as f32).sin() * self.moving;
        let bend = (self.phase + PI * side as f32).cos().max(0.0) * self.moving;
        let thigh = gait * (0.42 * swing + 0.25 * bend);
        let shin = thigh - gait * (0.1 + 0.75 * bend) * self.moving;
        let knee = (
            hip.0 + thigh.sin() * leg * 0.5,
            hip.1 - thigh.cos() * leg * 0.5,
        );
        [
            hip,
            knee,
            (
                knee.0 + shin.sin() * leg * 0.5,
                knee.1 - shin.cos() * leg * 0.5,
            ),
        ]
    }

    /// Shoulder, elbow and hand of one arm, swinging against the leg of its side.
    fn arm(&self, shoulder: Point, length: f32, side: usize) -> [Point; 3] {
        let mut upper = 0.45 * (self.phase + PI * (side + 1) as f32).sin() * self.moving;
        let mut lower = upper + 0.25;
        if self.raised && side == 0 {
            upper = 1.75;
            lower = 3.0 + 0.3 * (self.time * 7.0).sin();
        }
        let half = length * 0.5;
        let elbow = (
            shoulder.0 + upper.sin() * half,
            shoulder.1 - upper.cos() * half,
        );
        [
            shoulder,
            elbow,
            (elbow.0 + lower.sin() * half, elbow.1 - lower.cos() * half),
        ]
    }

    fn sleeve(&mut self, [shoulder, elbow, hand]: [Point; 3], r: f32, tone: f32) {
        let cloth = Cloth::worn(tone, 0.06);
        self.rod(elbow, hand, (r * 0.85, r * 0.7), cloth);
        self.rod(shoulder, elbow, (r, r * 0.85), cloth);
        let reach = (hand.0 - elbow.0, hand.1 - elbow.1);
        let palm = (hand.0 + reach.0 * 0.18, hand.1 + reach.1 * 0.18);
        self.rod(hand, palm, (r * 0.62, r * 0.55), Cloth::smooth(SKIN));
    }

    fn trousers(&mut self, [hip, knee, foot]: [Point; 3], r: f32, tone: f32) {
        let cloth = Cloth::worn(tone, 0.07);
        self.rod(hip, knee, (r, r * 0.8), cloth);
        self.rod(knee, foot, (r * 0.8, r * 0.7), cloth);
        self.shoe(foot, r);
    }

    fn shoe(&mut self, foot: Point, r: f32) {
        let toe = (foot.0 + r * 1.9, foot.1 - r * 0.35);
        self.rod(
            (foot.0 - r * 0.3, foot.1 - r * 0.2),
            toe,
            (r * 0.6, r * 0.42),
            Cloth::smooth(0.10),
        );
    }

    /// A head in three-quarter view: skull, face, ear, features. `size` is its height.
    fn head(&mut self, (x, y): Point, size: f32, hair: f32) {
        let s = size;
        self.rod(
            (x - 0.06 * s, y - 0.7 * s),
            (x, y - 0.3 * s),
            (0.21 * s, 0.19 * s),
            Cloth::smooth(SKIN * 0.82),
        );
        self.ball((x - 0.08 * s, y + 0.06 * s), (0.44 * s, 0.46 * s), hair);
        self.ball((x + 0.05 * s, y - 0.02 * s), (0.36 * s, 0.45 * s), SKIN);
        self.ball((x + 0.12 * s, y - 0.27 * s), (0.25 * s, 0.23 * s), SKIN); // jaw
        self.rod(
            (x + 0.34 * s, y + 0.04 * s),
            (x + 0.43 * s, y - 0.1 * s),
            (0.05 * s, 0.07 * s),
            Cloth::smooth(SKIN * 1.04),
        );
        self.ball(
            (x - 0.19 * s, y - 0.04 * s),
            (0.08 * s, 0.12 * s),
            SKIN * 0.88,
        ); // ear
        for (eye, wide) in [(0.14, 1.0), (0.33, 0.7)] {
            self.ball(
                (x + eye * s, y + 0.06 * s),
                (0.075 * s * wide, 0.05 * s),
                0.5,
            );
            self.ball(
                (x + (eye + 0.015) * s, y + 0.055 * s),
                (0.045 * s * wide, 0.042 * s),
                0.1,
            );
            let brow = [
                (x + (eye - 0.08 * wide) * s, y + 0.14 * s),
                (x + (eye + 0.07 * wide) * s, y + 0.16 * s),
            ];
            self.smooth(&brow, 0.018 * s, hair.min(0.4));
        }
        let mouth = [(x + 0.15 * s, y - 0.25 * s), (x + 0.3 * s, y - 0.24 * s)];
        self.smooth(&mouth, 0.026 * s, 0.38);
        self.ball(
            (x + 0.16 * s, y - 0.12 * s),
            (0.1 * s, 0.07 * s),
            SKIN * 1.08,
        ); // cheek
        let fringe = [
            (x - 0.25 * s, y + 0.12 * s),
            (x - 0.05 * s, y + 0.34 * s),
            (x + 0.2 * s, y + 0.38 * s),
        ];
        self.smooth(&fringe, 0.1 * s, hair);
    }

    /// A round hat: crown and brim.
    fn hat(&mut self, (x, y): Point, s: f32, tone: f32, band: f32) {
        self.rod(
            (x - 0.02 * s, y + 0.32 * s),
            (x - 0.04 * s, y + 0.66 * s),
            (0.42 * s, 0.37 * s),
            Cloth::folded(tone, 0.02),
        );
        self.ball(
            (x - 0.04 * s, y + 0.65 * s),
            (0.37 * s, 0.1 * s),
            tone * 1.05,
        );
        self.rod(
            (x - 0.02 * s, y + 0.32 * s),
            (x - 0.02 * s, y + 0.42 * s),
            (0.425 * s, 0.42 * s),
            Cloth::folded(band, 0.0),
        );
        self.rod(
            (x - 0.55 * s, y + 0.3 * s),
            (x + 0.62 * s, y + 0.3 * s),
            (0.055 * s, 0.055 * s),
            Cloth::smooth(tone * 0.92),
        );
    }

    fn woman(&mut self) {
        self.lift = 0.02 * (2.0 * self.phase).cos() * self.moving;
        let (dress, light) = (0.52, 0.90);
        for side in [1, 0] {
            let [_, knee, foot] = self.leg((0.0, 0.86), 0.82, 0.6, side);
            self.rod(knee, foot, (0.055, 0.032), Cloth::smooth(SKIN * 0.92));
            self.shoe(foot, 0.045);
        }
        let far = self.arm((0.03, 1.33), 0.55, 1);
        self.sleeve(far, 0.04, dress * 0.8);
        let sway = 0.04 * self.phase.sin() * self.moving;
        self.rod(
            (0.0, 1.02),
            (sway, 0.34),
            (0.11, 0.26),
            Cloth::folded(dress, 0.10),
        );
        self.rod(
            (0.0, 1.27),
            (0.0, 1.02),
            (0.13, 0.10),
            Cloth::worn(dress, 0.04),
        );
        self.rod(
            (sway * 0.3 + 0.05, 1.0),
            (sway + 0.08, 0.48),
            (0.05, 0.14),
            Cloth::folded(light, 0.08),
        ); // apron
        self.rod(
            (0.0, 1.01),
            (0.0, 0.97),
            (0.112, 0.116),
            Cloth::folded(light, 0.0),
        );
        self.smooth(&[(-0.06, 1.36), (0.04, 1.32), (0.07, 1.37)], 0.02, light); // collar
        self.head((0.01, 1.53), 0.215, 0.28);
        self.ball((-0.11, 1.52), (0.055, 0.055), 0.26); // bun
        let near = self.arm((-0.04, 1.33), 0.55, 0);
        self.sleeve(near, 0.045, dress * 1.08);
        if !self.raised {
            self.basket(near[2]);
        }
    }

    fn basket(&mut self, (x, y): Point) {
        self.smooth(
            &[
                (x - 0.13, y - 0.2),
                (x - 0.09, y - 0.06),
                (x, y),
                (x + 0.09, y - 0.06),
                (x + 0.13, y - 0.2),
            ],
            0.012,
            0.35,
        );
        for weave in 0..5 {
            let down = 0.2 + 0.03 * weave as f32;
            let half = 0.16 - 0.008 * weave as f32;
            self.smooth(
                &[(x - half, y - down), (x + half, y - down)],
                0.018,
                0.48 + 0.1 * (weave % 2) as f32,
            );
        }
        for apple in 0..4 {
            let across = 0.07 * apple as f32 - 0.105;
            let bump = 0.01 * noise(apple as f32 * 3.1, 0.0, 4);
            self.ball((x + across, y - 0.175 + bump), (0.042, 0.042), 0.40);
        }
    }

    fn man(&mut self, height: f32) {
        self.lift = 0.025 * (2.0 * self.phase).cos() * self.moving;
        let (coat, legs) = (0.22, 0.36);
        let hip = (0.0, 0.52 * height);
        for side in [1, 0] {
            let leg = self.leg(hip, 0.5 * height, 0.85, side);
            self.trousers(leg, 0.085, legs * if side == 1 { 0.75 } else { 1.0 });
        }
        let far = self.arm((0.05, 1.41), 0.62, 1);
        self.sleeve(far, 0.055, coat * 0.8);
        self.rod(
            (0.0, 1.37),
            (0.0, 1.1),
            (0.16, 0.15),
            Cloth::worn(coat, 0.04),
        );
        self.rod(
            (0.0, 1.18),
            (-0.01, 0.80),
            (0.15, 0.18),
            Cloth::folded(coat, 0.06),
        );
        self.rod(
            (0.07, 1.49),
            (0.11, 1.22),
            (0.06, 0.015),
            Cloth::folded(0.90, 0.0),
        ); // shirt
        self.rod(
            (0.09, 1.46),
            (0.115, 1.25),
            (0.02, 0.012),
            Cloth::smooth(0.2),
        ); // tie
        self.head((0.02, 1.64), 0.23, 0.20);
        self.smooth(&[(0.07, 1.605), (0.11, 1.598)], 0.012, 0.2); // moustache
        self.hat((0.02, 1.64), 0.23, 0.62, 0.12);
        let near = self.arm((-0.05, 1.41), 0.62, 0);
        self.sleeve(near, 0.058, coat * 1.25);
    }

    fn boy(&mut self, height: f32) {
        self.lift = 0.035 * (2.0 * self.phase).cos().abs() * self.moving;
        let hip = (0.0, 0.5 * height);
        for side in [1, 0] {
            let [hip, knee, foot] = self.leg(hip, 0.48 * height, 1.0, side);
            let shade = if side == 1 { 0.8 } else { 1.0 };
            self.rod(
                knee,
                foot,
                (0.045, 0.034),
                Cloth::smooth(SKIN * 0.95 * shade),
            );
            self.shoe(foot, 0.045);
            let above_knee = (0.3 * hip.0 + 0.7 * knee.0, 0.3 * hip.1 + 0.7 * knee.1);
            self.rod(
                hip,
                above_knee,
                (0.085, 0.075),
                Cloth::worn(0.30 * shade, 0.05),
            );
        }
        let far = self.arm((0.03, 0.92), 0.4, 1);
        self.sleeve(far, 0.036, 0.68);
        self.rod(
            (0.0, 0.89),
            (0.0, 0.64),
            (0.105, 0.10),
            Cloth::worn(0.86, 0.06),
        );
        self.smooth(&[(-0.05, 0.95), (-0.02, 0.6)], 0.016, 0.25); // braces
        self.smooth(&[(0.06, 0.95), (0.07, 0.6)], 0.016, 0.25);
        self.head((0.01, 1.08), 0.2, 0.45);
        self.ball((-0.01, 1.175), (0.1, 0.045), 0.34); // cap
        self.smooth(&[(0.04, 1.165), (0.13, 1.15)], 0.013, 0.3);
        let near = self.arm((-0.03, 0.92), 0.4, 0);
        self.sleeve(near, 0.038, 0.88);
    }

    fn dog(&mut self) {
        self.lift = 0.03 * (2.0 * self.phase).sin() * self.moving;
        let (coat, white) = (0.34, 0.85);
        for (x, side, shade) in [
            (0.24, 1, 0.7),
            (-0.24, 0, 0.7),
            (0.27, 0, 1.0),
            (-0.21, 1, 1.0),
        ] {
            let [hip, knee, foot] = self.leg((x, 0.36), 0.33, 1.0, side);
            self.rod(hip, knee, (0.055, 0.035), Cloth::smooth(coat * shade));
            self.rod(knee, foot, (0.032, 0.024), Cloth::smooth(white * shade));
        }
        let wag = 0.12 * (self.time * 11.0).sin();
        self.smooth(
            &[(-0.28, 0.44), (-0.4, 0.54), (-0.44 + wag, 0.66)],
            0.024,
            coat,
        );
        self.rod(
            (-0.24, 0.41),
            (0.24, 0.42),
            (0.115, 0.125),
            Cloth::smooth(coat),
        );
        self.rod(
            (0.27, 0.44),
            (0.28, 0.34),
            (0.06, 0.05),
            Cloth::smooth(white),
        ); // chest
        self.ball((-0.05, 0.44), (0.11, 0.08), coat * 0.6); // patch
        self.rod(
            (0.24, 0.44),
            (0.37, 0.58),
            (0.085, 0.07),
            Cloth::smooth(coat),
        );
        self.ball((0.4, 0.60), (0.09, 0.08), coat);
        self.rod(
            (0.43, 0.585),
            (0.53, 0.56),
            (0.05, 0.036),
            Cloth::smooth(white),
        );
        self.ball((0.555, 0.572), (0.017, 0.015), 0.06); // nose
        self.ball((0.435, 0.625), (0.014, 0.014), 0.05); // eye
        let flop = 0.02 * (self.phase * 2.0 + TAU / 4.0).sin();
        self.rod(
            (0.37, 0.65),
            (0.34, 0.55 + flop),
            (0.03, 0.035),
            Cloth::smooth(coat * 0.6),
        );
    }
}
