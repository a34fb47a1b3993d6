//! Weights from elsewhere: what is read, under which names, and what of it fits.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use autochrome::{
    Error,
    color::{ab_from_network, network_from_l},
    frame::Thumb,
    net::{
        self, Colorizer, Looks, Model, Network, Place,
        checkpoint::{self, COLOR, Header},
        engine::Engine,
        graph::{Conv, Graph, Window},
        import::{self, Taken},
        params::Params,
    },
};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

#[path = "common/numbers.rs"]
mod numbers;
use numbers::{apart, random, values};

/// A file made by tests/golden/pix2pix.py.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn graph(arch: &str, settings: Value) -> Graph {
    (net::arch(arch).unwrap().graph)(&settings).unwrap()
}

fn unet_128() -> Graph {
    graph("unet", json!({ "channels": 2, "depth": 7 }))
}

/// The reference's checkpoint in our network, on this engine.
fn reference(engine: Engine) -> Network {
    let path = golden("unet_128.pth");
    let graph = unet_128();
    let tensors = import::tensors(&path).unwrap();
    let fit = import::fitting(tensors, &graph).unwrap();
    let params = Params::given(&graph, &fit.whole("unet_128").unwrap(), &Device::Cpu).unwrap();
    let model = Model {
        graph,
        params,
        size: 128,
        gain: 1.,
        label: String::new(),
    };
    let place = Place {
        device: Device::Cpu,
        engine,
        words: String::new(),
        warning: None,
    };
    Network::new(model, place)
}

#[test]
fn a_checkpoint_of_pix2pix_gives_the_colours_that_it_gives_in_pytorch() {
    let io = import::tensors(&golden("unet_128.safetensors")).unwrap();
    let l = values(&io["l"]).into_iter().map(|x| 50. * (x + 1.));
    let thumb = Thumb {
        width: 128,
        height: 128,
        l: l.collect(),
    };
    assert!((network_from_l(thumb.l[5]) - values(&io["l"])[5]).abs() < 1e-6);
    let theirs: Vec<f32> = values(&io["ab"]).into_iter().map(ab_from_network).collect();
    for engine in Engine::present(&Device::Cpu) {
        let map = reference(engine)
            .predict(std::slice::from_ref(&thumb))
            .unwrap()
            .remove(0);
        let ours: Vec<f32> = map
            .a
            .iter()
            .zip(&map.b)
            .flat_map(|(a, b)| [*a, *b])
            .collect();
        let apart = apart(&ours, &theirs) / 110.;
        println!("{engine}: {apart} apart in network units");
        let most = match engine {
            Engine::Plan { bf16: true } => 3e-2,
            _ => 1e-4,
        };
        assert!(apart < most, "{engine}: {apart}");
    }
}

#[test]
fn the_full_unet_has_the_names_and_shapes_of_the_reference() {
    let text = fs::read_to_string(golden("unet_names.json")).unwrap();
    let theirs: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_str(&text).unwrap();
    for (name, depth) in [("unet_256", 8), ("unet_128", 7)] {
        let ours = graph("unet", json!({ "depth": depth })).parameters();
        let ours: BTreeMap<_, _> = ours.into_iter().map(|p| (p.name, p.shape)).collect();
        assert_eq!(ours, theirs[name], "{name}");
    }
}

#[test]
fn wrapped_files_are_unwrapped() {
    let all = import::tensors(&golden("nested.pth")).unwrap();
    let names: Vec<_> = all.keys().collect();
    assert_eq!(names, ["model.model.0.weight"]);
    let plain = import::tensors(&golden("unet_128.pth")).unwrap();
    assert!(plain.keys().all(|name| !name.contains("num_batches")));
    let (half, whole) = (&all["model.model.0.weight"], &plain["model.model.0.weight"]);
    assert_eq!((half.dtype(), half.dims()), (DType::F32, whole.dims()));
    let apart = apart(&values(half), &values(whole));
    assert!(
        apart > 0. && apart < 1e-4,
        "f16 is near, not equal: {apart}"
    );
}

fn safetensors(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let named = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone()));
    checkpoint::serialize(&named.collect(), "format", &"pt").unwrap()
}

#[test]
fn our_models_and_any_safetensors_file_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let weight = random(&[2, 3], "weight");
    fs::write(&path, safetensors(&[("module.a.weight", weight.clone())])).unwrap();
    let all = import::tensors(&path).unwrap();
    assert_eq!(values(&all["a.weight"]), values(&weight));

    let graph = unet_128();
    let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
    let header = Header {
        arch: "unet".into(),
        network: json!({ "channels": 2, "depth": 7 }),
        color: COLOR.into(),
        size: 128,
        looks: Looks::default(),
        trained: Value::Null,
        figures: Value::Null,
    };
    let bytes = checkpoint::bytes(&header, &params.values().unwrap(), DType::F32).unwrap();
    fs::write(&path, bytes).unwrap();
    let fit = import::fitting(import::tensors(&path).unwrap(), &graph).unwrap();
    let taken = fit.whole("model").unwrap();
    let ours = params.values().unwrap();
    assert_eq!(taken.len(), ours.len());
    for (name, value) in taken {
        assert_eq!(values(&value), values(&ours[&name]), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match import::tensors(&path) {
            Err(e @ Error::Model { .. }) => e.to_string(),
            Err(e) => panic!("not a model error: {e}"),
            Ok(all) => panic!("{:?} was read", all.keys()),
        }
    };
    let good = fs::read(golden("unet_128.pth")).unwrap();
    // The magic number at the beginning of the form before 1.6.
    let old = [0x80, 2, 0x8a, 10, 0x6c, 0xfc];
    assert!(refusal(&old).contains("save it again"));
    for part in [4, 100, good.len() / 2, good.len() - 1] {
        let why = refusal(&good[..part]);
        assert!(why.contains("no PyTorch file that can be read"), "{why}");
    }
    assert!(refusal(b"hello").contains("safetensors"));
    assert!(refusal(b"").contains("safetensors"));
    assert!(refusal(&safetensors(&[])).contains("no weights"));
    let missing = import::tensors(&folder.path().join("none.pth")).unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
}

#[test]
fn no_damage_to_a_pickle_is_more_than_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let mut bytes = fs::read(golden("nested.pth")).unwrap();
    let end = bytes
        .windows(2)
        .skip(4)
        .position(|two| two == b"PK")
        .unwrap();
    let mut refused = 0;
    for at in 0..end {
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        match import::tensors(&path) {
            Err(Error::Model { .. }) => refused += 1,
            Err(e) => panic!("byte {at}: not a model error: {e}"),
            Ok(_) => {}
        }
        bytes[at] ^= 1;
    }
    assert!(refused > end / 4, "{refused} of {end}");
}

fn rules(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    owned.collect()
}

#[test]
fn names_are_mapped_rule_after_rule() {
    let one = random(&[1], "one");
    let tensors = |names: &[&str]| -> BTreeMap<String, Tensor> {
        let named = names.iter().map(|n| ((*n).to_owned(), one.clone()));
        named.collect()
    };
    let encoder = tensors(&["net.encoder.0.w", "net.head.w"]);
    let order = rules(&[("net.", ""), ("encoder", "blocks"), ("blocks.0", "stem")]);
    let mapped = import::mapped(encoder.clone(), &order).unwrap();
    assert_eq!(mapped.keys().collect::<Vec<_>>(), ["head.w", "stem.w"]);
    let refusal = |names: &[&str], order: &[(&str, &str)]| {
        import::mapped(tensors(names), &rules(order))
            .unwrap_err()
            .to_string()
    };
    let why = refusal(&["a.w", "b.w"], &[("a.", "b.")]);
    assert!(why.contains("b.w"), "{why}");
    assert!(refusal(&["a.w"], &[("", "x")]).contains("nothing to replace"));
}

/// A network of three planes that sees one, and a layer after it.
fn small() -> Graph {
    let (mut graph, x) = Graph::new(1);
    let x = graph.conv(x, Conv::new("stem", 4, Window::same(3, 1)).no_bias());
    graph.conv(x, Conv::new("head", 2, Window::same(1, 1)));
    graph
}

#[test]
fn what_fits_is_taken_and_the_rest_named_with_both_shapes() {
    let stem = random(&[4, 3, 3, 3], "stem");
    let tensors = BTreeMap::from([
        ("stem.weight".to_owned(), stem.clone()),
        ("head.weight".to_owned(), random(&[3, 4, 1, 1], "head")),
        ("classifier.weight".to_owned(), random(&[10, 4], "other")),
    ]);
    let fit = import::fitting(tensors, &small()).unwrap();
    let Taken {
        taken,
        left,
        missing,
        misshapen,
    } = &fit;
    assert_eq!(taken.keys().collect::<Vec<_>>(), ["stem.weight"]);
    let planes = stem.sum_keepdim(1).unwrap();
    assert_eq!(values(&taken["stem.weight"]), values(&planes));
    assert_eq!(left, &["classifier.weight"]);
    assert_eq!(missing, &["head.bias"]);
    assert_eq!(misshapen.len(), 1, "{misshapen:?}");
    let sentence = misshapen[0].clone();
    for word in ["head.weight", "[3, 4, 1, 1]", "[2, 4, 1, 1]"] {
        assert!(sentence.contains(word), "{sentence}");
    }
    let why = fit.whole("some.pth").unwrap_err().to_string();
    assert!(why.contains("some.pth") && why.contains(&sentence), "{why}");
}

#[test]
fn a_checkpoint_of_other_settings_does_not_fit() {
    let tensors = || import::tensors(&golden("unet_128.pth")).unwrap();
    let refusal = |settings: Value| {
        let fit = import::fitting(tensors(), &graph("unet", settings)).unwrap();
        fit.whole("unet_128.pth").unwrap_err().to_string()
    };
    let why = refusal(json!({ "channels": 4, "depth": 7 }));
    assert!(
        why.contains("[4, 1, 4, 4]") && why.contains("[2, 1, 4, 4]"),
        "{why}"
    );
    let why = refusal(json!({ "channels": 2, "depth": 7, "norm": "group" }));
    assert!(why.contains("running_mean"), "{why}");
    let why = refusal(json!({ "channels": 2, "depth": 8 }));
    assert!(why.contains("lacks") || why.contains("as ["), "{why}");
}
