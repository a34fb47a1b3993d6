//! Relay: the network beside the frames of a live run, not before them. Frames pass at once; what the network says of one
//! goes with a later one, to which the temporal filter carries it.

use std::thread;

use crate::{
    error::{Error, Result},
    frame::{Inferred, Item, Late, Planned, Thumb},
    net::Colorizer,
    stage::{Helper, Receiver, Sender},
};

/// Passes frames on, and asks the network about key frames as often as it has time. Only a frame without anything that
/// could be carried to it, the first of a scene, waits for the answer.
pub fn relay(
    frames: Receiver<Planned>,
    out: Sender<Inferred>,
    colorizer: &mut dyn Colorizer,
    rotation: u16,
) -> Result<()> {
    thread::scope(|scope| {
        let mut network = Helper::start(scope, "network", |(of, thumb): (u64, Thumb)| {
            let mut maps = colorizer.predict(std::slice::from_ref(&thumb))?;
            let map = maps.pop();
            let map = map.ok_or_else(|| Error::internal("infer", "no map for a thumbnail"))?;
            let ab = map.rotated_to_coded(rotation);
            Ok(Late { of, ab })
        })?;
        for item in frames.iter() {
            out.send(match item {
                Item::Packet(packet) => Item::Packet(packet),
                Item::Frame(planned) => Item::Frame(passed(planned, &mut network)?),
            })?;
        }
        Ok(())
    })
}

fn passed(planned: Planned, network: &mut Helper<(u64, Thumb), Late>) -> Result<Inferred> {
    let Planned {
        frame,
        thumb,
        cut,
        own,
        motion,
    } = planned;
    if cut && network.is_busy() {
        // An answer about another scene is of no use to this one.
        network.wait()?;
    }
    let late = network.answer()?;
    let (key, mut ab) = (thumb.is_some(), None);
    if let Some(thumb) = thumb.filter(|_| !network.is_busy()) {
        network.ask((frame.index, thumb))?;
        if cut {
            ab = Some(network.wait()?.ab);
        }
    }
    Ok(Inferred {
        frame,
        cut,
        own,
        motion,
        key,
        ab,
        late,
    })
}
