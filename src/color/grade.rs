//! Grade: colours as the user wants them, in every frame alike.

use crate::frame::AbMap;

/// Where the white of D50 light lies for eyes that are used to D65, CIE a and b: from their white points (CIE 15) by the
/// formulas of CIE 1976.
const D50: (f32, f32) = (2.4, 17.7);

/// What is done to every colour.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Grade {
    /// Factor on chroma, 0 (grey) to 4.
    pub saturation: f32,
    /// How much warmer the light is: 1 as much as D50 is warmer than D65, -1 as much cooler.
    pub warmth: f32,
}

impl Default for Grade {
    fn default() -> Self {
        Self {
            saturation: 1.,
            warmth: 0.,
        }
    }
}

impl Grade {
    /// Changes colours. The default leaves them bit for bit as they are.
    pub fn apply(&self, ab: &mut AbMap) {
        for (plane, warm) in [(&mut ab.a, D50.0), (&mut ab.b, D50.1)] {
            let shift = warm * self.warmth;
            plane
                .iter_mut()
                .for_each(|v| *v = *v * self.saturation + shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chroma_is_scaled_and_white_is_moved() {
        let colour = AbMap::constant(10., -20.);
        let graded = |saturation: f32, warmth: f32| {
            let mut ab = colour.clone();
            Grade { saturation, warmth }.apply(&mut ab);
            (ab.a[0], ab.b[0])
        };
        assert_eq!(graded(1., 0.), (10., -20.));
        assert_eq!(graded(0., 0.), (0., 0.));
        assert_eq!(graded(1.5, 0.), (15., -30.));
        assert_eq!(graded(0., 1.), D50);
        let (a, b) = graded(1., -0.5);
        assert!(a < 10. && b < -20. - 8.);
    }
}
