//! The light decoder behind pretrained encoders: a head at a quarter of the input's size, where chroma loses little
//! (a quarter of 128 px costs 1.7 dE00).

use super::{
    graph::{Act, Conv, Graph, RELU, Value},
    params::Init,
};

/// Channels at 1/16, 1/8 and 1/4 of the input.
const CHANNELS: [usize; 3] = [192, 128, 96];

/// From the encoder's map at 1/16, `deep`, and its maps at 1/8 and 1/4, `skips`, to ab at 1/4: a global vector is
/// added at 1/16; then every step doubles the map, joins it with the encoder's, and mixes.
pub fn regression(g: &mut Graph, deep: Value, skips: &[Value; 2]) -> Value {
    let mean = g.mean(deep);
    let bottom = Conv::same("decoder.bottom", CHANNELS[0], 3).act(RELU);
    let low = g.conv(deep, bottom);
    let global = g.conv(mean, Conv::same("decoder.global", CHANNELS[0], 1));
    let mut x = g.add(low, global);
    for (i, skip) in skips.iter().enumerate() {
        let (name, channels) = (format!("decoder.join{}", 8 >> i), CHANNELS[i + 1]);
        x = join(g, &name, (x, *skip), channels);
    }
    // tanh near 0 and a small first gradient: training starts from grey, not from noise.
    let head = Conv::same("decoder.head", 2, 3).init(Init::Normal(0., 0.01));
    g.conv(x, head.act(Act::Tanh))
}

/// The coarser map doubled, joined with the encoder's, mixed by a 1x1 and a 3x3 convolution.
fn join(g: &mut Graph, name: &str, (coarse, skip): (Value, Value), channels: usize) -> Value {
    let coarse = g.up(coarse, 2);
    let joined = g.cat(coarse, skip);
    let mixed = g.conv(
        joined,
        Conv::same(format!("{name}.mix"), channels, 1).act(RELU),
    );
    g.conv(
        mixed,
        Conv::same(format!("{name}.smooth"), channels, 3).act(RELU),
    )
}
