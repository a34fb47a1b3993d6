//! Infer: the network before the frames, key frame by key frame, several at once where that is faster.

use crate::{
    error::{Error, Result},
    frame::{Inferred, Item, Planned},
    net::Colorizer,
    stage::{Receiver, Sender},
};

/// Runs the network on key frames, `batch` at a time; a batch exists only in here.
pub fn infer(
    frames: Receiver<Planned>,
    out: Sender<Inferred>,
    colorizer: &mut dyn Colorizer,
    batch: usize,
    rotation: u16,
) -> Result<()> {
    let (mut waiting, mut keys) = (Vec::new(), 0);
    for item in frames.iter() {
        match item {
            Item::Packet(packet) => out.send(Item::Packet(packet))?,
            Item::Frame(frame) => {
                keys += usize::from(frame.thumb.is_some());
                waiting.push(frame);
            }
        }
        // Frames that no key frame waits before go on at once.
        if keys == 0 || keys == batch {
            infer_batch(&mut waiting, &out, colorizer, rotation)?;
            keys = 0;
        }
    }
    infer_batch(&mut waiting, &out, colorizer, rotation)
}

fn infer_batch(
    waiting: &mut Vec<Planned>,
    out: &Sender<Inferred>,
    colorizer: &mut dyn Colorizer,
    rotation: u16,
) -> Result<()> {
    let mut keys = Vec::with_capacity(waiting.len());
    let mut thumbs = Vec::with_capacity(waiting.len());
    for frame in waiting.iter_mut() {
        keys.push(frame.thumb.is_some());
        thumbs.extend(frame.thumb.take());
    }
    let maps = match thumbs.is_empty() {
        true => Vec::new(),
        false => colorizer.predict(&thumbs)?,
    };
    if maps.len() != thumbs.len() {
        let why = format!("{} maps for {} thumbnails", maps.len(), thumbs.len());
        return Err(Error::internal("infer", why));
    }
    let mut maps = maps.into_iter();
    for (planned, key) in waiting.drain(..).zip(keys) {
        let map = if key { maps.next() } else { None };
        out.send(Item::Frame(Inferred {
            frame: planned.frame,
            cut: planned.cut,
            own: planned.own,
            motion: planned.motion,
            key,
            ab: map.map(|map| map.rotated_to_coded(rotation)),
            late: None,
        }))?;
    }
    Ok(())
}
