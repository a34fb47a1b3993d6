//! What every generator promises, for every row of ARCHS; models by name; agreement with PyTorch.

use std::{collections::BTreeMap, process::Command};

use autochrome::{
    Error,
    frame::Thumb,
    net::{
        self, ARCHS, Arch, Colorizer, DeviceChoice, Generator, Network,
        checkpoint::{self, COLOR, Header},
        params::{Init, Params, normal, stream},
        patchgan::{PatchGan, PatchGanConfig},
    },
};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

/// A fresh generator with its default settings, and its parameters.
fn fresh(arch: &Arch) -> (Params, Box<dyn Generator>) {
    let params = Params::seeded(1, &Device::Cpu);
    let generator = (arch.build)(&params.root(), &(arch.defaults)()).unwrap();
    (params, generator)
}

fn random(shape: [usize; 4], purpose: &str) -> Tensor {
    let mut rng = stream(3, purpose);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| normal(&mut rng).clamp(-1., 1.))
        .collect();
    Tensor::from_vec(values, &shape, &Device::Cpu).unwrap()
}

fn thumbs(count: usize, width: usize, height: usize) -> Vec<Thumb> {
    let mut rng = stream(5, "thumbs");
    let mut thumb = || Thumb {
        width,
        height,
        l: (0..width * height)
            .map(|_| 50. + 20. * normal(&mut rng))
            .collect(),
    };
    (0..count).map(|_| thumb()).collect()
}

/// A fresh generator of this kind behind the narrow waist.
fn colorizer(arch: &Arch) -> Network {
    Network::new(
        fresh(arch).1,
        Device::Cpu,
        64,
        1.,
        arch.name.into(),
        "CPU".into(),
    )
}

#[test]
fn every_generator_keeps_the_batch_axis_and_is_finite_on_pictures_that_are_not_square() {
    for arch in ARCHS {
        let (_, generator) = fresh(arch);
        let stride = generator.stride();
        let y = generator
            .forward(&random([1, 3, 2 * stride, 3 * stride], "l"), None)
            .unwrap();
        let (c, n, h, w) = y.dims4().unwrap();
        assert_eq!((c, n), (2, 3), "{}", arch.name);
        assert_eq!((h * 3, 2 * stride % h), (w * 2, 0), "{}", arch.name);
        let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(
            values.iter().all(|v| v.abs() <= 1.),
            "{}: finite, within -1..1",
            arch.name
        );
    }
}

#[test]
fn every_parameter_of_every_generator_gets_a_gradient() {
    for arch in ARCHS {
        let (params, generator) = fresh(arch);
        let side = 2 * generator.stride();
        let y = generator
            .forward(&random([1, 2, side, side], "l"), None)
            .unwrap();
        let grads = (&y * random(y.dims4().unwrap().into(), "cotangent"))
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        for (name, var) in params.vars() {
            let grad = grads
                .get(&var)
                .unwrap_or_else(|| panic!("{} {name}: no gradient", arch.name));
            let size = grad
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(
                size > 0. && size.is_finite(),
                "{} {name}: gradient {size}",
                arch.name
            );
        }
    }
}

#[test]
fn a_frame_alone_is_coloured_as_in_a_batch_bit_for_bit() {
    for arch in ARCHS {
        let mut model = colorizer(arch);
        let (width, height) = model.thumb_size(160, 90).unwrap();
        let thumbs = thumbs(3, width, height);
        let together = model.predict(&thumbs).unwrap();
        for (thumb, map) in thumbs.iter().zip(&together) {
            let alone = model.predict(std::slice::from_ref(thumb)).unwrap();
            assert_eq!(&alone[0], map, "{}", arch.name);
        }
    }
}

/// candle takes the number of threads from the environment, so each number needs a process: this test runs
/// [`colours_for_another_process`] in two of them.
#[test]
fn colours_are_bit_identical_for_one_and_two_threads() {
    let colours = |threads: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "colours_for_another_process", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .env("AUTOCHROME_TEST_COLOURS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("colours of"))
            .map(str::to_owned)
            .collect();
        assert_eq!(lines.len(), ARCHS.len(), "{text}");
        lines
    };
    assert_eq!(colours("1"), colours("2"));
}

#[test]
fn colours_for_another_process() {
    if std::env::var_os("AUTOCHROME_TEST_COLOURS").is_none() {
        return;
    }
    for arch in ARCHS {
        let mut model = colorizer(arch);
        let (width, height) = model.thumb_size(256, 160).unwrap();
        let maps = model.predict(&thumbs(2, width, height)).unwrap();
        let bytes: Vec<u8> = maps
            .iter()
            .flat_map(|m| m.a.iter().chain(&m.b))
            .flat_map(|v| v.to_le_bytes())
            .collect();
        println!("\ncolours of {}: {}", arch.name, checkpoint::digest(&bytes));
    }
}

/// As `wave` in tests/golden/networks.py.
fn wave(name: &str, shape: &[usize]) -> Tensor {
    let phase = name.bytes().map(f64::from).sum::<f64>();
    let fan_in: usize = shape[1..].iter().product();
    let (offset, scale) = match name {
        _ if shape.len() == 4 && name.ends_with("weight") => (0., (2. / fan_in as f64).sqrt()),
        _ if name.ends_with("norm.weight") => (1., 0.1),
        _ if name.ends_with("bias") => (0., 0.1),
        _ => (0., 1.),
    };
    let value = |i: usize| (offset + scale * (0.7 * i as f64 + phase).sin()) as f32;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Sets every parameter to its wave.
fn set_to_waves(params: &Params) {
    let waves = params.vars().into_iter().map(|(name, var)| {
        let wave = wave(&name, var.dims());
        (name, wave)
    });
    params.set(&waves.collect()).unwrap();
}

fn agrees_with_pytorch(name: &str, y: &Tensor) {
    // Made by tests/golden/networks.py with PyTorch 1.13.
    let golden: Value = serde_json::from_str(include_str!("golden/networks.json")).unwrap();
    assert_eq!(json!(y.dims()), golden[name]["shape"], "{name}");
    let ours = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let theirs: Vec<f64> = serde_json::from_value(golden[name]["every_37th"].clone()).unwrap();
    assert_eq!(ours.len().div_ceil(37), theirs.len());
    for (i, (ours, theirs)) in ours.iter().step_by(37).zip(theirs).enumerate() {
        let apart = (f64::from(*ours) - theirs).abs();
        assert!(
            apart < 1e-4,
            "{name}, value {}: {ours}, PyTorch has {theirs}",
            37 * i
        );
    }
}

#[test]
fn every_generator_agrees_with_pytorch() {
    for arch in ARCHS {
        let (params, generator) = fresh(arch);
        set_to_waves(&params);
        agrees_with_pytorch(
            arch.name,
            &generator
                .forward(&wave("input", &[1, 2, 64, 96]), None)
                .unwrap(),
        );
    }
}

#[test]
fn the_discriminator_agrees_with_pytorch() {
    let params = Params::seeded(1, &Device::Cpu);
    let critic = PatchGan::new(&params.root(), &PatchGanConfig::default()).unwrap();
    set_to_waves(&params);
    let logits = critic
        .forward(
            &wave("input", &[1, 2, 64, 96]),
            &wave("chroma", &[2, 2, 64, 96]),
        )
        .unwrap();
    agrees_with_pytorch("patchgan", &logits);
}

#[test]
fn the_same_seed_draws_the_same_parameters_and_another_seed_others() {
    let values = |seed| {
        let params = Params::seeded(seed, &Device::Cpu);
        params
            .root()
            .at("layer")
            .get("weight", &[1000], Init::Normal(1., 0.02))
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(values(1), values(1));
    assert_ne!(values(1), values(2));
    let mean = values(1).iter().sum::<f32>() / 1000.;
    let spread = (values(1).iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1000.).sqrt();
    assert!(
        (mean - 1.).abs() < 0.003 && (spread - 0.02).abs() < 0.002,
        "mean {mean}, spread {spread}"
    );
}

#[test]
fn thumbnails_keep_the_display_aspect() {
    let stride = 16;
    for (w, h) in [
        (640, 480),
        (1920, 1080),
        (720, 576),
        (1080, 1920),
        (1000, 1000),
        (2390, 1000),
    ] {
        let (tw, th) = net::thumb_size(96, stride, w, h);
        assert_eq!((tw % stride, th % stride), (0, 0));
        let squash = (tw as f64 / th as f64) / (w as f64 / h as f64);
        assert!((0.94..1.07).contains(&squash), "{w}x{h} became {tw}x{th}");
        assert!((76..=128).contains(&tw.min(th)), "{w}x{h} became {tw}x{th}");
    }
    let (tw, th) = net::thumb_size(96, stride, 10_000, 10);
    assert!(tw <= 512 && th >= stride, "a strip became {tw}x{th}");
}

#[test]
fn test_models_need_no_file_and_look_at_no_pixels() {
    let mut gray = net::load("gray", &DeviceChoice::Cpu).unwrap();
    let mut constant = net::load("constant", &DeviceChoice::Cpu).unwrap();
    let thumbs = thumbs(2, 16, 16);
    assert_eq!(gray.thumb_size(1920, 1080), None);
    let maps = gray.predict(&thumbs).unwrap();
    assert_eq!(
        (maps.len(), &maps[0].a[..], &maps[1].b[..]),
        (2, &[0f32][..], &[0f32][..])
    );
    let map = &constant.predict(&thumbs).unwrap()[0];
    assert!(map.a[0] != 0. || map.b[0] != 0.);
}

#[test]
fn the_default_model_is_bundled_and_says_what_it_is() {
    let info = net::info(net::DEFAULT_MODEL).unwrap();
    assert!(info.parameters > 100_000 && info.digest.len() == 64);
    assert!(
        info.trained["photographs"].as_u64() > Some(1000)
            && info.trained["settings"]["seed"].is_u64()
    );
    let mut model = net::load(net::DEFAULT_MODEL, &DeviceChoice::Cpu).unwrap();
    assert!(
        model.describe().contains(&info.digest[..12]),
        "{}",
        model.describe()
    );
    let (width, height) = model.thumb_size(640, 480).unwrap();
    let map = &model.predict(&thumbs(1, width, height)).unwrap()[0];
    assert_eq!(map.a.len(), map.width * map.height);
    assert!(map.a.iter().chain(&map.b).all(|v| v.is_finite()));
}

/// A model file of this kind with fresh parameters.
fn file_of(arch: &Arch, color: &str) -> Vec<u8> {
    let (params, _) = fresh(arch);
    let header = Header {
        arch: arch.name.into(),
        network: (arch.defaults)(),
        color: color.into(),
        size: 64,
        gain: 1.5,
        trained: json!({ "steps": 0 }),
        figures: Value::Null,
    };
    let values: BTreeMap<_, _> = params
        .vars()
        .into_iter()
        .map(|(n, v)| (n, v.as_tensor().clone()))
        .collect();
    checkpoint::bytes(&header, &values, DType::F16).unwrap()
}

#[test]
fn every_generator_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for arch in ARCHS {
        let path = folder.path().join(format!("{}.safetensors", arch.name));
        let bytes = file_of(arch, COLOR);
        std::fs::write(&path, &bytes).unwrap();
        let name = path.to_str().unwrap();
        assert!(net::is_model_name(name));
        let info = net::info(name).unwrap();
        assert_eq!((&info.arch[..], info.size, info.gain), (arch.name, 64, 1.5));
        assert_eq!(info.digest, checkpoint::digest(&bytes));
        let model = net::load(name, &DeviceChoice::Cpu).unwrap();
        assert!(model.describe().contains(arch.name));
        assert_eq!(
            file_of(arch, COLOR),
            bytes,
            "the same model is the same file"
        );
    }
}

#[test]
fn a_wrong_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        match net::load(path.to_str().unwrap(), &DeviceChoice::Cpu) {
            Err(e @ Error::Model { .. }) => e.to_string(),
            Err(e) => panic!("{name}: not a model error: {e}"),
            Ok(_) => panic!("{name} was taken"),
        }
    };
    let good = file_of(&ARCHS[1], COLOR);
    assert!(refusal("text.safetensors", b"hello").contains("no safetensors file"));
    assert!(refusal("cut.safetensors", &good[..good.len() / 2]).contains("safetensors file"));
    assert!(refusal("color.safetensors", &file_of(&ARCHS[1], "YUV")).contains("YUV"));
    let foreign = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let foreign =
        checkpoint::serialize(&BTreeMap::from([("w".into(), foreign)]), "format", &"pt").unwrap();
    assert!(refusal("foreign.safetensors", &foreign).contains("does not say what it is"));
    let missing = net::load("no-such-model", &DeviceChoice::Cpu)
        .err()
        .unwrap()
        .to_string();
    assert!(
        missing.contains("gray") && missing.contains(net::DEFAULT_MODEL),
        "{missing}"
    );
}

#[test]
fn devices_are_named_and_refused_in_words() {
    for name in ["auto", "cpu", "cuda:0", "cuda:7"] {
        assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
    }
    assert_eq!(
        "cuda".parse::<DeviceChoice>().unwrap(),
        DeviceChoice::Cuda(0)
    );
    for name in ["gpu", "cuda:", "cuda:x", ""] {
        assert!(
            matches!(name.parse::<DeviceChoice>(), Err(Error::Usage(_))),
            "{name}"
        );
    }
    let (_, why) = DeviceChoice::Auto.open().unwrap();
    assert!(why.contains("auto"), "auto says why: {why}");
    if !cfg!(feature = "cuda") {
        let refusal = DeviceChoice::Cuda(0).open().err().unwrap().to_string();
        assert!(refusal.contains("--features cuda"), "{refusal}");
    }
}
