use super::*;
use crate::frame::Matrix;

fn sampling() -> Sampling {
    Sampling {
        depth: 8,
        log2_w: 1,
        log2_h: 1,
        chroma_offset: (0.0, 0.5),
        range: Range::Limited,
        matrix: Matrix::BT709,
        primaries: Primaries::BT709,
        interlaced: false,
    }
}

#[test]
#[ignore = "prints timings"]
fn timing() {
    for (w, h, depth) in [
        (854, 480, 8),
        (1280, 720, 8),
        (1920, 1080, 8),
        (1920, 1080, 10),
    ] {
        for map in [1, 64, 128, 256] {
            let s = Sampling {
                depth,
                ..sampling()
            };
            let n = if depth == 8 { 1 } else { 2 };
            let luma: Vec<u8> = (0..w * h)
                .flat_map(|i| {
                    let v = ((i * 7919) % 251) as u16;
                    let v = if n == 1 { v } else { v * 4 };
                    v.to_le_bytes()[..n].to_vec()
                })
                .collect();
            let mw = (map * w / h).max(1);
            let ab = AbMap {
                width: mw,
                height: map,
                a: (0..mw * map).map(|i| (i % 37) as f32 - 15.0).collect(),
                b: (0..mw * map).map(|i| (i % 41) as f32 - 12.0).collect(),
            };
            let p = Painter::new((w, h), &s);
            let (cw, ch) = p.chroma_size();
            let mut cb = vec![0; cw * ch * n];
            let mut cr = cb.clone();
            let t = cpu();
            for _ in 0..50 {
                p.paint(
                    |y| &luma[y * w * n..(y + 1) * w * n],
                    &ab,
                    PlaneMut {
                        data: &mut cb,
                        stride: cw * n,
                    },
                    PlaneMut {
                        data: &mut cr,
                        stride: cw * n,
                    },
                );
            }
            eprintln!(
                "{w}x{h} {depth} map {mw}x{map}: {:.2} ms",
                (cpu() - t) * 20.0
            );
        }
    }
}

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}
