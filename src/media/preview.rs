//! A sink that draws a before/after sheet of a few frames.

use super::{Packet, Sink, Thumbnailer, Written};
use crate::{
    color,
    error::{Error, Result, io_sentence, shown},
    frame::{Merged, VideoInfo, turned},
};
use image::{GenericImage, ImageFormat, Rgb, RgbImage, codecs::jpeg::JpegEncoder};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Pairs on a sheet, where nobody asks for another number.
const PAIRS: usize = 8;
/// Longest side of a picture on the sheet, likewise.
const SIDE: usize = 480;
/// Quality of a sheet in JPEG.
const JPEG: u8 = 85;
/// Pixels between pictures.
const GAP: u32 = 8;
/// What shows between them.
const BACKGROUND: Rgb<u8> = Rgb([32, 32, 32]);

/// Collects frames spread over the film and writes one picture, PNG or JPEG by its name, of grey beside colour, upright and with square pixels.
///
/// It keeps every n-th frame; when it holds twice as many as are shown it drops every second one and doubles n. So it needs
/// few small pictures however long the film is, and nobody has to know that.
pub struct PreviewSink {
    path: PathBuf,
    part: PathBuf,
    finished: bool,
    video: VideoInfo,
    pairs: usize,
    size: (usize, usize),
    rotation: u16,
    grey: Thumbnailer,
    frames: u64,
    stride: u64,
    held: Vec<Pair>,
}

/// The same frame before and after.
struct Pair {
    grey: RgbImage,
    colour: RgbImage,
}

impl PreviewSink {
    /// Will write a sheet of a film's frames to `path`, through `path.part`. `total` is the expected number of frames,
    /// where known: it saves drawing some that would be dropped again. An existing file is replaced only with `force`.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn create(path: &Path, video: &VideoInfo, total: Option<u64>, force: bool) -> Result<Self> {
        if path.exists() && !force {
            let why = "exists already; add --force to replace it, or choose another name";
            return Err(Error::output(shown(path), why));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        File::create(&part).map_err(|e| Error::output(shown(path), io_sentence(&e)))?;
        let size = fitted(video.display, SIDE);
        Ok(Self {
            video: video.clone(),
            pairs: PAIRS,
            path: path.to_owned(),
            part,
            finished: false,
            size,
            rotation: video.rotation,
            grey: Thumbnailer::new(video, size),
            frames: 0,
            stride: (total.unwrap_or(0) / (2 * PAIRS) as u64).max(1),
            held: Vec::new(),
        })
    }

    /// The same with at most `pairs` pairs, of pictures whose longest side is `side`.
    pub fn of(mut self, pairs: usize, side: usize) -> Self {
        self.pairs = pairs;
        self.size = fitted(self.video.display, side);
        self.grey = Thumbnailer::new(&self.video, self.size);
        self
    }

    /// Frames held while it is not known how long the film is: twice as many as are shown, so that half may turn out too
    /// many.
    fn most(&self) -> usize {
        2 * self.pairs
    }

    fn pair(&mut self, frame: &Merged) -> Result<Pair> {
        let (width, height) = self.size;
        let lightness = self.grey.thumb(&frame.picture)?.l;
        let levels = lightness
            .iter()
            .map(|&l| color::srgb_from_lab([l, 0.0, 0.0])[1]);
        let levels = levels.map(|v| (v * 255.0).round() as u8);
        let grey = levels.flat_map(|v| [v; 3]).collect();
        let coded = match self.rotation % 180 {
            90 => (height, width),
            _ => (width, height),
        };
        let rgb = frame.picture.to_rgb(coded.0, coded.1)?;
        let (_, upright) = turned(rgb.as_chunks::<3>().0, coded, self.rotation);
        Ok(Pair {
            grey: image_of(self.size, grey)?,
            colour: image_of(self.size, upright.into_flattened())?,
        })
    }

    /// The sheet: pairs in one column, or in two where there are more than four. Of more than enough frames, the first
    /// is left out: films begin black.
    fn sheet(&self) -> Result<RgbImage> {
        let count = self.held.len().min(self.pairs);
        let spread = |i: usize| &self.held[(2 * i + 1) * self.held.len() / (2 * count)];
        let columns = if count > 4 { 2 } else { 1 };
        let (width, height) = (self.size.0 as u32, self.size.1 as u32);
        let (across, down) = (2 * width + GAP, height + GAP);
        let rows = (count as u32).div_ceil(columns);
        let size = (columns * (across + GAP) + GAP, rows * down + GAP);
        let mut sheet = RgbImage::from_pixel(size.0, size.1, BACKGROUND);
        for i in 0..count as u32 {
            // Down the first column, then down the second.
            let (x, y) = (GAP + i / rows * (across + GAP), GAP + i % rows * down);
            let pair = spread(i as usize);
            for (image, x) in [(&pair.grey, x), (&pair.colour, x + width + GAP)] {
                let drawn = sheet.copy_from(image, x, y);
                drawn.map_err(|e| Error::internal("preview", e))?;
            }
        }
        Ok(sheet)
    }

    /// Writes the sheet, makes sure that it is on the disk, and gives it its name.
    fn publish(&self, sheet: &RgbImage) -> Result<u64> {
        let refused = |e: std::io::Error| Error::output(shown(&self.path), io_sentence(&e));
        let mut png = Vec::new();
        let mut to = std::io::Cursor::new(&mut png);
        let jpeg = self.path.extension().is_some_and(|e| e == "jpg");
        let written = match jpeg {
            true => sheet.write_with_encoder(JpegEncoder::new_with_quality(&mut to, JPEG)),
            false => sheet.write_to(&mut to, ImageFormat::Png),
        };
        written.map_err(|e| Error::internal("preview", e))?;
        let mut file = BufWriter::new(File::create(&self.part).map_err(refused)?);
        file.write_all(&png).map_err(refused)?;
        let file = file.into_inner().map_err(|e| refused(e.into_error()))?;
        file.sync_all().map_err(refused)?;
        fs::rename(&self.part, &self.path).map_err(refused)?;
        Ok(png.len() as u64)
    }
}

impl Sink for PreviewSink {
    fn frame(&mut self, frame: &Merged) -> Result<()> {
        self.frames += 1;
        if !(self.frames - 1).is_multiple_of(self.stride) {
            return Ok(());
        }
        if self.held.len() == self.most() {
            let mut even = false;
            self.held.retain(|_| {
                even = !even;
                even
            });
            self.stride *= 2;
            // This frame is the one after an odd number of the old strides: that number is even, so it stays.
        }
        let pair = self.pair(frame)?;
        self.held.push(pair);
        Ok(())
    }

    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        let mut written = Written {
            name: shown(&self.path),
            frames: self.frames,
            ..Written::default()
        };
        if self.held.is_empty() {
            written.streams.push("no frame to draw: no sheet".into());
            return Ok(written);
        }
        written.bytes = Some(self.publish(&self.sheet()?)?);
        written.streams.push(format!(
            "sheet of {} frames",
            self.held.len().min(self.pairs)
        ));
        self.finished = true;
        Ok(written)
    }
}

impl Drop for PreviewSink {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a file that cannot be removed, and nothing depends on it.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// The largest size of this shape whose sides are at most `side`.
fn fitted((width, height): (usize, usize), side: usize) -> (usize, usize) {
    let longest = width.max(height).max(side);
    let scaled = |n: usize| ((n * side + longest / 2) / longest).max(1);
    (scaled(width), scaled(height))
}

fn image_of((width, height): (usize, usize), rgb: Vec<u8>) -> Result<RgbImage> {
    RgbImage::from_raw(width as u32, height as u32, rgb)
        .ok_or_else(|| Error::internal("preview", "a picture has another size than asked for"))
}

#[cfg(test)]
mod tests;
