//! Draws `samples/village.mp4`: ten seconds of an old film that nobody shot.
//!
//! ```text
//! cargo run --release --example draw -- samples/village.mp4
//! ```
//!
//! Pictures, sound, chapters and subtitles are made here, from seeds; the `ffmpeg` program only compresses them.
//! A second argument, a number, draws that one frame alone, as a PNG.

mod figures;
mod film;
mod paint;
mod scene;
mod tune;

use figures::{Walker, Who};
use paint::Canvas;
use scene::{Camera, Shot, Thing};
use std::{
    error::Error,
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

const SIZE: (usize, usize) = (640, 480);
const FPS: usize = 24;
const SECONDS: usize = 10;

/// One chapter: a shot, who walks in it, what is said in the subtitle.
struct Chapter {
    title: &'static str,
    line: &'static str,
    seconds: f32,
    shot: Shot,
    walkers: &'static [Walker],
}

const fn walker(who: Who, x: f32, z: f32, speed: f32) -> Walker {
    Walker {
        who,
        x,
        z,
        speed,
        waves: false,
    }
}

const WIDE: Camera = Camera {
    x: 0.0,
    height: 2.1,
    focal: 1250.0,
    horizon: 430.0,
    width: 1280.0,
    evening: 0.0,
};

const CHAPTERS: [Chapter; 3] = [
    Chapter {
        title: "Morning in the village",
        line: "Every morning she carries apples to the market.",
        seconds: 3.5,
        shot: Shot {
            camera: WIDE,
            things: &[
                (26.0, Thing::House { x: -9.5 }),
                (
                    21.0,
                    Thing::Fence {
                        from: -10.0,
                        to: -3.4,
                    },
                ),
                (
                    34.0,
                    Thing::Tree {
                        x: -12.5,
                        height: 9.0,
                        seed: 11,
                    },
                ),
                (
                    30.0,
                    Thing::Tree {
                        x: 9.5,
                        height: 8.0,
                        seed: 12,
                    },
                ),
                (
                    18.0,
                    Thing::Tree {
                        x: 7.2,
                        height: 7.6,
                        seed: 13,
                    },
                ),
                (
                    52.0,
                    Thing::Tree {
                        x: 3.5,
                        height: 8.5,
                        seed: 14,
                    },
                ),
            ],
        },
        walkers: &[
            walker(Who::Man, 3.6, 15.0, -0.9),
            walker(Who::Woman, -1.6, 8.2, 0.95),
            walker(Who::Dog, -2.9, 7.9, 1.05),
        ],
    },
    Chapter {
        title: "By the fence",
        line: "\"Good day! A fine summer, is it not?\"",
        seconds: 3.5,
        shot: Shot {
            camera: Camera {
                x: -4.0,
                height: 1.35,
                focal: 1500.0,
                horizon: 400.0,
                ..WIDE
            },
            things: &[
                (14.0, Thing::House { x: -14.0 }),
                (
                    8.0,
                    Thing::Fence {
                        from: -9.0,
                        to: 2.0,
                    },
                ),
                (
                    16.0,
                    Thing::Tree {
                        x: -0.9,
                        height: 6.0,
                        seed: 21,
                    },
                ),
                (
                    40.0,
                    Thing::Tree {
                        x: 3.0,
                        height: 9.0,
                        seed: 22,
                    },
                ),
            ],
        },
        walkers: &[
            Walker {
                who: Who::Man,
                x: -3.15,
                z: 5.1,
                speed: -0.0001,
                waves: true,
            },
            walker(Who::Woman, -5.9, 4.6, 0.36),
        ],
    },
    Chapter {
        title: "Homeward",
        line: "The last one home shuts the gate.",
        seconds: 3.0,
        shot: Shot {
            camera: Camera {
                x: 1.0,
                height: 1.5,
                focal: 1350.0,
                horizon: 440.0,
                evening: 1.0,
                ..WIDE
            },
            things: &[
                (40.0, Thing::House { x: 5.5 }),
                (
                    14.0,
                    Thing::Tree {
                        x: 6.0,
                        height: 6.2,
                        seed: 31,
                    },
                ),
                (
                    46.0,
                    Thing::Tree {
                        x: -8.0,
                        height: 8.0,
                        seed: 32,
                    },
                ),
                (
                    24.0,
                    Thing::Tree {
                        x: -7.5,
                        height: 5.5,
                        seed: 33,
                    },
                ),
            ],
        },
        walkers: &[
            walker(Who::Woman, 3.2, 13.0, -0.5),
            walker(Who::Boy, -1.6, 5.4, 1.25),
            walker(Who::Dog, -0.4, 5.0, 1.35),
        ],
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [output] => draw_film(Path::new(output)),
        [output, frame] => draw_frame(output, frame.parse()?),
        _ => Err("usage: draw FILM.mp4, or draw PICTURE.png FRAME".into()),
    }
}

fn draw_film(output: &Path) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("draw-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("sound.raw"), sound())?;
    fs::write(folder.join("chapters.txt"), chapters())?;
    fs::write(folder.join("lines.srt"), subtitles())?;
    let mut encoder = encoder(&folder, output)?;
    let mut pipe = encoder.stdin.take().ok_or("no pipe to ffmpeg")?;
    let mut set = None;
    for frame in 0..FPS * SECONDS {
        pipe.write_all(&picture(frame, &mut set))?;
    }
    drop(pipe);
    let status = encoder.wait()?;
    fs::remove_dir_all(&folder)?;
    if !status.success() {
        return Err(format!("ffmpeg failed: {status}").into());
    }
    println!("{}: {} frames", output.display(), FPS * SECONDS);
    Ok(())
}

fn draw_frame(output: &str, frame: usize) -> Result<(), Box<dyn Error>> {
    let luma = picture(frame, &mut None);
    let grey: Vec<u8> = luma
        .iter()
        .map(|y| ((f32::from(*y) - 16.0) * 255.0 / 219.0) as u8)
        .collect();
    image::save_buffer(
        output,
        &grey,
        SIZE.0 as u32,
        SIZE.1 as u32,
        image::ColorType::L8,
    )?;
    Ok(())
}

/// The chapter that a frame belongs to, and the seconds since it began.
fn chapter_of(frame: usize) -> (usize, f32) {
    let mut time = frame as f32 / FPS as f32;
    for (index, chapter) in CHAPTERS.iter().enumerate() {
        if time < chapter.seconds || index + 1 == CHAPTERS.len() {
            return (index, time);
        }
        time -= chapter.seconds;
    }
    unreachable!("the last chapter takes every later frame")
}

/// One frame's luma. `set` keeps what does not move from frame to frame of a chapter.
fn picture(frame: usize, set: &mut Option<(usize, Set)>) -> Vec<u8> {
    let (index, time) = chapter_of(frame);
    let chapter = &CHAPTERS[index];
    let camera = &chapter.shot.camera;
    let (_, land) = match set.take() {
        Some((of, land)) if of == index => set.insert((of, land)),
        _ => set.insert((index, Set::build(&chapter.shot))),
    };
    let mut canvas = Canvas::new(2 * SIZE.0, 2 * SIZE.1);
    scene::sky(&mut canvas, camera, time);
    land.cover(&mut canvas);
    if let Some((z, Thing::House { x })) = chapter.shot.things.first() {
        scene::smoke(&mut canvas, camera, (*x, *z), time);
    }
    for walker in chapter.walkers {
        walker.after(time).draw(&mut canvas, camera, time);
    }
    film::expose(&canvas, SIZE, frame)
}

/// The still part of a shot, with a hole where the sky is: painted once on black and once on white, so that the
/// difference says how much of each pixel it covers.
struct Set {
    on_black: Canvas,
    on_white: Canvas,
}

impl Set {
    fn build(shot: &Shot) -> Self {
        let paint = |ground: f32| {
            let mut canvas = Canvas::new(2 * SIZE.0, 2 * SIZE.1);
            canvas.tones.fill(ground);
            scene::land(&mut canvas, &shot.camera, shot);
            canvas
        };
        Self {
            on_black: paint(0.0),
            on_white: paint(1.0),
        }
    }

    fn cover(&self, canvas: &mut Canvas) {
        let both = self.on_black.tones.iter().zip(&self.on_white.tones);
        for (at, (black, white)) in canvas.tones.iter_mut().zip(both) {
            *at = black + *at * (white - black);
        }
    }
}

fn sound() -> Vec<u8> {
    tune::play(SECONDS as f32)
        .into_iter()
        .flat_map(i16::to_le_bytes)
        .collect()
}

fn chapters() -> String {
    let mut text = String::from(
        ";FFMETADATA1\ntitle=A village that never was\ndate=1924\nartist=autochrome\n",
    );
    let mut start = 0.0;
    for chapter in &CHAPTERS {
        let end = start + chapter.seconds * 1000.0;
        text += &format!(
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={}\n",
            chapter.title
        );
        start = end;
    }
    text
}

fn subtitles() -> String {
    let stamp = |seconds: f32| format!("00:00:{:06.3}", seconds).replace('.', ",");
    let (mut text, mut start) = (String::new(), 0.0);
    for (index, chapter) in CHAPTERS.iter().enumerate() {
        let (from, to) = (stamp(start + 0.4), stamp(start + chapter.seconds - 0.3));
        text += &format!("{}\n{from} --> {to}\n{}\n\n", index + 1, chapter.line);
        start += chapter.seconds;
    }
    text
}

fn encoder(folder: &Path, output: &Path) -> Result<Child, Box<dyn Error>> {
    let size = format!("{}x{}", SIZE.0, SIZE.1);
    let (fps, rate) = (FPS.to_string(), tune::RATE.to_string());
    let mut command = Command::new("ffmpeg");
    command.args([
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pixel_format",
        "gray",
        "-color_range",
        "tv",
    ]);
    command.args(["-video_size", &size, "-framerate", &fps, "-i", "-"]);
    command
        .args(["-f", "s16le", "-ar", &rate, "-ac", "1", "-i"])
        .arg(folder.join("sound.raw"));
    command.arg("-i").arg(folder.join("lines.srt"));
    command.arg("-i").arg(folder.join("chapters.txt"));
    command.args([
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-map",
        "2:s",
        "-map_metadata",
        "3",
        "-map_chapters",
        "3",
    ]);
    // The bytes from the pipe are limited range already and must not be scaled to it again.
    command.args([
        "-vf",
        "scale=in_range=tv:out_range=tv,format=yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "slow",
        "-crf",
        "23",
        "-threads",
        "2",
    ]);
    command.args([
        "-c:a",
        "aac",
        "-b:a",
        "80k",
        "-c:s",
        "mov_text",
        "-metadata:s:s:0",
        "language=eng",
    ]);
    command.args([
        "-metadata:s:a:0",
        "title=Piano",
        "-fflags",
        "+bitexact",
        "-flags",
        "+bitexact",
        "-movflags",
        "+faststart",
    ]);
    let child = command.arg(output).stdin(Stdio::piped()).spawn();
    child.map_err(|e| {
        format!("cannot start the ffmpeg program: {e}; install it (apt install ffmpeg)").into()
    })
}
