use super::*;

const SIZE: (usize, usize) = (320, 180);

/// A soft pattern that is nowhere like elsewhere, 0..100.
fn pattern(x: f32, y: f32) -> f32 {
    let wave = |u: f32, v: f32, phase: f32| (u * x + v * y + phase).sin();
    let sum = wave(0.31, 0.11, 0.)
        + wave(-0.17, 0.29, 1.)
        + wave(0.053, 0.07, 2.)
        + wave(0.11, -0.043, 3.)
        + wave(0.6, 0.5, 4.) * 0.4;
    50. + 10. * sum
}

fn sketch(l: impl Fn(f32, f32) -> f32) -> Sketch {
    let all = (0..SIZE.0 * SIZE.1).map(|i| l((i % SIZE.0) as f32, (i / SIZE.0) as f32));
    Sketch::new(&all.collect::<Vec<_>>(), SIZE)
}

/// The mean distance of the vectors from those expected, away from the border.
fn astray(field: &Field, expected: impl Fn(f32, f32) -> [f32; 2]) -> f32 {
    let inside = |(x, y): (f32, f32)| {
        x > 40. && x < SIZE.0 as f32 - 40. && y > 40. && y < SIZE.1 as f32 - 40.
    };
    let cells = (0..field.vectors.len()).filter(|cell| inside(field.middle(*cell)));
    let distances: Vec<f32> = cells
        .map(|cell| {
            let (x, y) = field.middle(cell);
            let ([dx, dy], [ex, ey]) = (field.vectors[cell], expected(x, y));
            (dx - ex).hypot(dy - ey)
        })
        .collect();
    distances.iter().sum::<f32>() / distances.len() as f32
}

#[test]
fn what_stands_still_has_not_moved() {
    let picture = sketch(pattern);
    let field = Field::between(&picture, &picture);
    assert!(field.vectors.iter().all(|v| *v == [0., 0.]));
    assert_eq!((field.columns, field.rows), Field::cells(SIZE.0, SIZE.1));
    let flat = sketch(|_, _| 40.);
    assert!(
        Field::between(&flat, &sketch(|_, _| 47.))
            .vectors
            .iter()
            .all(|v| *v == [0., 0.])
    );
}

#[test]
fn a_moving_camera_is_followed_to_a_part_of_a_sample() {
    let now = sketch(pattern);
    for [dx, dy] in [[1., 0.], [-3., 2.], [0.5, -0.25], [7.3, 4.6], [-16., 9.]] {
        // What is at (x, y) now was at (x + dx, y + dy).
        let before = sketch(|x, y| pattern(x - dx, y - dy));
        let field = Field::between(&now, &before);
        let back = field.back(&now, &before);
        for (field, way) in [(&field, 1.), (&back, -1.)] {
            let apart = astray(field, |_, _| [dx * way, dy * way]);
            assert!(apart < 0.25, "({dx}, {dy}): {apart} samples astray");
        }
    }
}

#[test]
fn another_exposure_does_not_matter() {
    let now = sketch(|x, y| pattern(x, y) + 8.);
    let before = sketch(|x, y| pattern(x - 4., y + 2.));
    for (now, before, way) in [(&now, &before, 1.), (&before, &now, -1.)] {
        let apart = astray(&Field::between(now, before), |_, _| [4. * way, -2. * way]);
        assert!(apart < 0.25, "{apart} samples astray");
    }
}

#[test]
fn a_thing_moves_before_what_stands_still() {
    let within = |x: f32, y: f32| (100. ..180.).contains(&x) && (60. ..120.).contains(&y);
    let thing = |x: f32, y: f32| 100. - pattern(1.3 * y, 0.9 * x);
    let now = sketch(|x, y| {
        if within(x, y) {
            thing(x, y)
        } else {
            pattern(x, y)
        }
    });
    let before = sketch(|x, y| {
        if within(x + 6., y) {
            thing(x + 6., y)
        } else {
            pattern(x, y)
        }
    });
    let field = Field::between(&now, &before);
    let of = |inside: bool| {
        let cells = (0..field.vectors.len()).filter(|cell| {
            let (x, y) = field.middle(*cell);
            let clear = |x: f32| {
                within(x - 6., y) == inside
                    && within(x + 6., y) == inside
                    && within(x, y - 5.) == inside
                    && within(x, y + 5.) == inside
            };
            clear(x)
        });
        let right = if inside { [-6., 0.] } else { [0., 0.] };
        let all: Vec<bool> = cells
            .map(|cell| {
                (field.vectors[cell][0] - right[0]).hypot(field.vectors[cell][1] - right[1]) < 0.5
            })
            .collect();
        all.iter().filter(|right| **right).count() as f32 / all.len() as f32
    };
    assert!(
        of(true) > 0.95 && of(false) > 0.95,
        "{} of the thing, {} of the ground",
        of(true),
        of(false)
    );
}

#[test]
fn ways_are_put_together() {
    let frames: Vec<Sketch> = (0..5)
        .map(|t| sketch(|x, y| pattern(x + 2.4 * t as f32, y - 1.3 * t as f32)))
        .collect();
    let mut way = Field::still(SIZE);
    for pair in frames.windows(2) {
        way = Field::between(&pair[1], &pair[0]).then(&way);
    }
    let apart = astray(&way, |_, _| [4. * 2.4, -4. * 1.3]);
    assert!(apart < 0.4, "{apart} samples astray over four frames");
}
