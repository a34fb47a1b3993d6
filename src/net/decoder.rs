//! The light decoder behind pretrained encoders: a head at a quarter of the input's size, where chroma loses little
//! (a quarter of 128 px costs 1.7 dE00).

use super::{
    graph::{Act, Conv, Graph, NormKind, RELU, Value},
    params::Init,
};

/// Channels at 1/16, 1/8 and 1/4 of the input.
const CHANNELS: [usize; 3] = [192, 128, 96];

/// From the encoder's map at 1/16, `deep`, and its maps at 1/8 and 1/4, `skips`, to ab at 1/4: a global vector is
/// added at 1/16; then every step doubles the map, joins it with the encoder's, and mixes. `norm` follows every
/// convolution but the global one and the head; an encoder whose features are not around 1 needs one, or the ReLUs
/// here die in the first steps.
pub fn regression(g: &mut Graph, deep: Value, skips: &[Value; 2], norm: Option<NormKind>) -> Value {
    let mean = g.mean(deep);
    let low = g.layer(
        deep,
        Conv::same("decoder.bottom", CHANNELS[0], 3),
        norm,
        RELU,
    );
    let global = g.conv(mean, Conv::same("decoder.global", CHANNELS[0], 1));
    let mut x = g.add(low, global);
    for (i, skip) in skips.iter().enumerate() {
        let (name, channels) = (format!("decoder.join{}", 8 >> i), CHANNELS[i + 1]);
        let coarse = g.up(x, 2);
        let joined = g.cat(coarse, *skip);
        let mix = Conv::same(format!("{name}.mix"), channels, 1);
        let mixed = g.layer(joined, mix, norm, RELU);
        let smooth = Conv::same(format!("{name}.smooth"), channels, 3);
        x = g.layer(mixed, smooth, norm, RELU);
    }
    // tanh near 0 and a small first gradient: training starts from grey, not from noise.
    let head = Conv::same("decoder.head", 2, 3).init(Init::Normal(0., 0.01));
    g.conv(x, head.act(Act::Tanh))
}
