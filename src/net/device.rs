//! Where a network runs, and in which words that is said.

use std::{fmt, str::FromStr};

use candle_core::Device;

use serde::{Deserialize, Serialize};

use super::engine::{Engine, Precision, onednn};
use crate::error::{Error, Result};

/// Where and how a network runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// How it is run there.
    pub engine: Engine,
    /// Both for people, with the reason where they were chosen for them.
    pub words: String,
    /// What the user should know: that it could be faster, and how.
    pub warning: Option<String>,
}

impl Place {
    /// The CPU, with the best engine that it has in f32.
    pub fn cpu() -> Self {
        Self::new(Device::Cpu, "CPU".into(), Precision::F32)
    }

    fn new(device: Device, words: String, precision: Precision) -> Self {
        let (engine, warning) = Engine::choose(&device, precision);
        let words = match device.is_cpu() {
            true => format!("{words}, {engine}"),
            false => words,
        };
        Self {
            device,
            engine,
            words,
            warning,
        }
    }
}

/// What the user asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown = || {
            Error::Usage(format!(
                "no device is called {s}: write auto, cpu, cuda or cuda:N"
            ))
        };
        match s.split_once(':') {
            None if s == "auto" => Ok(Self::Auto),
            None if s == "cpu" => Ok(Self::Cpu),
            None if s == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", n)) => n.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl DeviceChoice {
    /// The place to run a network in these numbers.
    ///
    /// # Errors
    /// [`Error::Model`] where CUDA was asked for and cannot be had, with what to do.
    pub fn place(self, precision: Precision) -> Result<Place> {
        let (device, words) = self.open()?;
        Ok(Place::new(device, words, precision))
    }

    /// The device, and how to name it to people, with the reason where it was chosen for them.
    ///
    /// # Errors
    /// As for [`DeviceChoice::place`].
    pub fn open(self) -> Result<(Device, String)> {
        match self {
            Self::Cpu => Ok((Device::Cpu, "CPU".into())),
            Self::Cuda(n) => match cuda(n) {
                Ok(device) => Ok((device, format!("CUDA device {n}"))),
                Err(None) => Err(Error::model(
                    format!("on {self}"),
                    format!(
                        "{NO_CUDA}; build one that has it with: cargo build --release --features cuda,cudnn"
                    ),
                )),
                Err(Some(why)) => Err(Error::model(
                    format!("on {self}"),
                    format!("{why}; --device cpu works everywhere"),
                )),
            },
            Self::Auto => match cuda(0) {
                Ok(device) => Ok((device, "CUDA device 0 (auto: it is there)".into())),
                Err(why) => {
                    let why = why.unwrap_or_else(|| NO_CUDA.into());
                    Ok((Device::Cpu, format!("CPU (auto: {why})")))
                }
            },
        }
    }
}

const NO_CUDA: &str = "this build has no CUDA";

/// CUDA device `n`, or why there is none; without a reason where this build lacks CUDA.
fn cuda(n: usize) -> std::result::Result<Device, Option<String>> {
    if !cfg!(feature = "cuda") {
        return Err(None);
    }
    // A stream of its own: on the default, every thread has one, and candle does not wait from one for another.
    // Without a driver candle panics instead of failing; the panic's own message is of no use to anybody.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let device = std::panic::catch_unwind(|| Device::new_cuda_with_stream(n));
    std::panic::set_hook(hook);
    match device {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(e)) => Err(Some(format!("CUDA device {n} cannot be opened: {e}"))),
        Err(_) => Err(Some("there is no NVIDIA driver".into())),
    }
}

/// What this machine and this build offer a network, and what would be chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that may be used, and threads that a network would take.
    pub cores: usize,
    /// Threads that a network would take.
    pub threads: usize,
    /// Instruction sets that matter here, the best last.
    pub instructions: Vec<&'static str>,
    /// oneDNN's version, or "no" and why it is not to be had.
    pub onednn: String,
    /// CUDA's first device, or "no" and why it is not to be had.
    pub cuda: String,
    /// Where and how a network would run.
    pub chosen: String,
    /// What would be faster, and how to get it.
    pub warning: Option<String>,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// None but a defect: some engine is always there.
    pub fn this() -> Result<Self> {
        let place = DeviceChoice::Auto.place(Precision::Auto)?;
        let no = |why: String| format!("no: {why}");
        let cuda = match cuda(0) {
            Ok(_) => "CUDA device 0".into(),
            Err(why) => no(why.unwrap_or_else(|| NO_CUDA.into())),
        };
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            threads: rayon::current_num_threads(),
            instructions: instructions(),
            onednn: onednn::version().map_or_else(no, str::to_owned),
            cuda,
            chosen: place.words,
            warning: place.warning,
        })
    }
}

/// Instruction sets for which oneDNN has convolutions of their own.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let all = [
            ("SSE4.1", has!("sse4.1")),
            ("AVX2", has!("avx2")),
            ("AVX-512", has!("avx512f") && has!("avx512bw")),
            ("AVX-512 BF16", has!("avx512bf16")),
        ];
        all.into_iter()
            .filter(|(_, there)| *there)
            .map(|(name, _)| name)
            .collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let instructions = match self.instructions.is_empty() {
            true => "none that matter here".into(),
            false => self.instructions.join(", "),
        };
        writeln!(f, "CPU      {} cores, {instructions}", self.cores)?;
        writeln!(f, "oneDNN   {}", self.onednn)?;
        writeln!(f, "CUDA     {}", self.cuda)?;
        write!(f, "chosen   {}, {} threads", self.chosen, self.threads)?;
        match &self.warning {
            Some(warning) => write!(f, "\n         {warning}"),
            None => Ok(()),
        }
    }
}
