//! The piano beside the screen: a little waltz, made of decaying harmonics.

pub const RATE: u32 = 44_100;

/// `seconds` of mono 16-bit samples.
pub fn play(seconds: f32) -> Vec<i16> {
    let mut sound = vec![0.0f32; (seconds * RATE as f32) as usize];
    let beat = 0.40;
    // Three beats a bar: a bass note, then its chord twice; semitones above A2 (110 Hz).
    let bars = [
        [3, 19, 22],
        [3, 19, 22],
        [8, 20, 24],
        [10, 19, 25],
        [3, 19, 22],
        [0, 19, 24],
        [8, 20, 24],
        [10, 20, 26],
        [3, 19, 22],
    ];
    for (bar, [bass, low, high]) in bars.into_iter().enumerate() {
        let start = 3.0 * beat * bar as f32;
        strike(&mut sound, start, bass, 0.30);
        for after in [1.0, 2.0] {
            strike(&mut sound, start + after * beat, low - 12, 0.12);
            strike(&mut sound, start + after * beat, high - 12, 0.12);
        }
    }
    // The melody: (beats, semitone).
    let melody = [
        (1.0, 34),
        (1.0, 31),
        (1.0, 34),
        (2.0, 39),
        (1.0, 34),
        (1.0, 36),
        (1.0, 32),
        (1.0, 36),
        (3.0, 34),
        (1.0, 31),
        (1.0, 34),
        (1.0, 31),
        (2.0, 36),
        (1.0, 31),
        (1.0, 32),
        (1.0, 34),
        (1.0, 36),
        (1.0, 34),
        (1.0, 32),
        (1.0, 29),
        (3.0, 27),
    ];
    let mut at = 0.0;
    for (beats, note) in melody {
        strike(&mut sound, at, note, 0.26);
        at += beats * beat;
    }
    let fade = |i: usize| ((sound.len() - i) as f32 / (0.6 * RATE as f32)).min(1.0);
    let level = |(i, s): (usize, &f32)| (s * fade(i) * 0.7).clamp(-1.0, 1.0) * 32_000.0;
    sound
        .iter()
        .enumerate()
        .map(level)
        .map(|s| s as i16)
        .collect()
}

fn strike(sound: &mut [f32], at: f32, semitone: i32, strength: f32) {
    let pitch = 110.0 * (semitone as f32 / 12.0).exp2();
    let first = (at * RATE as f32) as usize;
    let length = (1.6 * RATE as f32) as usize;
    for (i, sample) in sound.iter_mut().skip(first).take(length).enumerate() {
        let t = i as f32 / RATE as f32;
        let attack = (t / 0.006).min(1.0);
        let tone: f32 = (1..=6)
            .map(|h| {
                let h = h as f32;
                let turn = std::f32::consts::TAU * pitch * h * (1.0 + 0.0003 * h * h) * t;
                turn.sin() * (-t * (2.2 + 1.3 * h)).exp() / (h * h * 0.7 + 0.3)
            })
            .sum();
        *sample += strength * attack * tone;
    }
}
