//! `cargo bench --bench live -- [SECONDS]`: how long a live picture takes, from the arrival of its packet to the last byte of
//! its JPEG at a reader on this machine, with the fast model and a drawn camera of 30 frames a second; no browser. Prints
//! figures and asserts nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

const AUTOCHROME: &str = env!("CARGO_BIN_EXE_autochrome");
/// The first pictures wait for the network's first run.
const SETTLED: Duration = Duration::from_secs(5);

fn main() {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next();
    let seconds = Duration::from_secs(seconds.unwrap_or(30));
    for size in ["854x480", "1280x720"] {
        measure(size, seconds);
    }
}

fn measure(size: &str, seconds: Duration) {
    let camera = format!("lavfi:testsrc2=size={size}:rate=30,hue=s=0,noise=alls=4:allf=t");
    let mut child = Command::new(AUTOCHROME)
        .args(["live", "--listen", "127.0.0.1:0", &camera])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut said = BufReader::new(child.stderr.take().expect("its words")).lines();
    let address = said.find_map(|line| {
        let url = line.ok()?.split_once("http://")?.1.to_owned();
        Some(url.trim_end_matches('/').to_owned())
    });
    let address = address.expect("the preview's address");
    let (mut delays, mut times) = (Vec::new(), Vec::new());
    let since = Instant::now();
    read(&address, |arrived| {
        if since.elapsed() > SETTLED {
            delays.push(1e3 * arrived);
            times.push(Instant::now());
        }
        since.elapsed() < SETTLED + seconds
    });
    let figures = ask(&address, "/figures");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let _ = child.kill();
    let _ = child.wait();
    delays.sort_by(f64::total_cmp);
    let share = |share: f64| delays[(share * delays.len() as f64) as usize];
    let span = times[times.len() - 1]
        .duration_since(times[0])
        .as_secs_f64();
    println!(
        "{size}: {:.1} fps, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms; peak memory {}",
        (times.len() - 1) as f64 / span,
        share(0.5),
        share(0.95),
        share(0.99),
        peak.unwrap_or("?").trim()
    );
    println!("  {}", figures.split("\r\n\r\n").nth(1).unwrap_or_default());
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the preview");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Reads picture after picture, for as long as `each` wants, which is given a picture's age in seconds.
fn read(address: &str, mut each: impl FnMut(f64) -> bool) {
    let mut stream = TcpStream::connect(address).expect("the preview");
    let request = format!("GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut stream = BufReader::new(stream);
    let (mut length, mut arrived) = (0, 0.);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap_or(0),
            Some(("X-Arrived", value)) => arrived = value.parse().unwrap_or(0.),
            _ if line == "\r\n" && length > 0 => {
                let mut jpeg = vec![0; length];
                stream.read_exact(&mut jpeg).expect("a picture");
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                if !each(now.as_secs_f64() - arrived) {
                    return;
                }
                length = 0;
            }
            _ => {}
        }
        line.clear();
    }
}
