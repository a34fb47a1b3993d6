//! Live: cameras and streams from end to end, over loopback, with the `ffmpeg` program as the other side and `lavfi` as the
//! camera that no build machine has.

mod common;
use common::*;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A running `autochrome live`, ended when it is dropped.
struct Live {
    child: Child,
    stderr: mpsc::Receiver<String>,
    /// Host and port of the preview.
    address: String,
    /// What it has said so far.
    said: String,
}

impl Live {
    /// With a preview on any free port; returns once that is there.
    fn start(args: &[&str]) -> Self {
        Self::started(
            &[&["--listen", "127.0.0.1:0"], args].concat(),
            "preview at http://",
        )
    }

    /// Returns once it has said `word`.
    fn started(args: &[&str], word: &str) -> Self {
        let mut child = autochrome(["live", "--model", "constant"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let (say, stderr) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| say.send(line + "\n"))
        });
        let mut live = Self {
            child,
            stderr,
            address: String::new(),
            said: String::new(),
        };
        let line = live.hears(word);
        if let Some((_, url)) = line.split_once("http://") {
            live.address = url.trim().split('/').next().unwrap().to_owned();
        }
        live
    }

    /// Reads on until it says `word`; the line.
    fn hears(&mut self, word: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(Duration::from_secs(40));
            let line =
                line.unwrap_or_else(|_| panic!("it never said '{word}', but:\n{}", self.said));
            self.said.push_str(&line);
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Status and body of an answer.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the preview");
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let request =
            format!("{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        // Who refuses a request need not read it.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or(0), body.to_owned())
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn figures(&self) -> Value {
        serde_json::from_str(&self.get("/figures")).unwrap()
    }

    fn set(&self, what: &str, value: &str) -> u16 {
        self.ask(
            "POST",
            &format!("/{what}?value={value}"),
            "X-Autochrome: 1\r\n",
        )
        .0
    }

    /// Waits until the figures say so.
    fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        let since = Instant::now();
        while !fits(&self.figures()) {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{what}: {}",
                self.figures()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it with a signal; its exit code and all that it said.
    fn end(mut self) -> (i32, String) {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    fn wait(&mut self) -> (i32, String) {
        while let Ok(line) = self.stderr.recv_timeout(Duration::from_secs(60)) {
            self.said.push_str(&line);
        }
        let _ = self.child.kill();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), std::mem::take(&mut self.said))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pictures of a preview, one after the other.
struct Pictures(BufReader<TcpStream>);

impl Pictures {
    fn of(live: &Live) -> Self {
        let mut stream = TcpStream::connect(&live.address).unwrap();
        let request = format!("GET /stream HTTP/1.1\r\nHost: {}\r\n\r\n", live.address);
        stream.write_all(request.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    fn next(&mut self) -> image::RgbImage {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(
                self.0.read_line(&mut line).unwrap() > 0,
                "the stream has ended"
            );
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" && length > 0 {
                break;
            }
        }
        // Every picture is one chunk, with its head.
        let mut jpeg = vec![0; length];
        self.0.read_exact(&mut jpeg).unwrap();
        image::load_from_memory(&jpeg)
            .expect("a JPEG picture")
            .to_rgb8()
    }

    /// Mean difference of the largest and the least of R, G, B.
    fn colour(picture: &image::RgbImage) -> f64 {
        let spread = |p: &image::Rgb<u8>| {
            let (least, most) = (p.0.iter().min().unwrap(), p.0.iter().max().unwrap());
            f64::from(most - least)
        };
        picture.pixels().map(spread).sum::<f64>() / (picture.width() * picture.height()) as f64
    }
}

const CAMERA: &str = "lavfi:testsrc2=size=320x240:rate=25,hue=s=0";

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// `ffmpeg` sends a test picture of this size, with sound, to a UDP port at its own pace.
fn sender(port: u16, size: &str) -> Child {
    let video = format!("testsrc2=size={size}:rate=25,hue=s=0");
    Command::new("ffmpeg")
        .args(["-v", "error", "-re", "-f", "lavfi", "-i", &video])
        .args(["-re", "-f", "lavfi", "-i", "sine=r=48000"])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-g",
            "12",
        ])
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mpegts"])
        .arg(format!("udp://127.0.0.1:{port}?pkt_size=1316"))
        .stdin(Stdio::null())
        .spawn()
        .expect("ffmpeg")
}

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn rises(film: &Path) -> Vec<f64> {
    let times = times(film);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    times
}

#[test]
fn a_camera_is_shown_in_colour_and_obeys_the_page() {
    let live = Live::start(&[CAMERA]);
    let mut pictures = Pictures::of(&live);
    let picture = pictures.next();
    assert_eq!(picture.dimensions(), (320, 240));
    assert!(Pictures::colour(&picture) > 15.);
    live.until("frames", |f| f["frames"].as_u64() > Some(50));
    let figures = live.figures();
    assert_eq!(
        (&figures["connected"], &figures["viewers"]),
        (&true.into(), &1.into())
    );
    // How many are left out is the machine's affair; none comes before its time.
    assert!(
        (2. ..30.).contains(&figures["fps"].as_f64().unwrap()),
        "{figures}"
    );
    assert!(
        figures["latency_p95_ms"].as_f64() < Some(1000.),
        "{figures}"
    );
    assert!(figures["network_runs"].as_u64() < figures["frames"].as_u64());
    let metrics = live.get("/metrics");
    for name in [
        "frames_total",
        "dropped_frames_total",
        "latency_p95_seconds",
        "connected 1",
    ] {
        assert!(metrics.contains(&format!("autochrome_{name}")), "{metrics}");
    }
    assert_eq!(live.get("/healthz"), "ok\n");
    let page = live.get("/");
    assert!(page.contains("<title>autochrome live</title>") && !page.contains("http"));

    assert_eq!(live.set("saturation", "0"), 200);
    let grey = (0..100).any(|_| Pictures::colour(&pictures.next()) < 3.);
    assert!(grey, "the strength of the colours has no effect");
    assert_eq!(live.set("pause", "true"), 200);
    live.until("a pause", |f| f["paused"] == true);
    assert_eq!(live.set("pause", "false"), 200);
    pictures.next();
    let (code, said) = live.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the network ran"), "{said}");
}

#[test]
fn who_should_not_be_answered_is_not() {
    let live = Live::start(&[CAMERA]);
    // From another site's page; by a name that was made to lead here; what is not there; nonsense.
    for (method, path, headers, status) in [
        ("POST", "/pause?value=true", "", 403),
        (
            "POST",
            "/pause?value=true",
            "X-Autochrome: 1\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
        ("GET", "/figures", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("GET", "/figures", "Host: evil.example\r\n", 403),
        ("GET", "/../../etc/passwd", "", 404),
        ("GET", "/stream/..", "", 404),
        ("DELETE", "/", "", 405),
        ("POST", "/saturation?value=NaN", "X-Autochrome: 1\r\n", 400),
        ("POST", "/saturation?value=9", "X-Autochrome: 1\r\n", 400),
        ("POST", "/pause?value=maybe", "X-Autochrome: 1\r\n", 400),
    ] {
        let (came, body) = live.ask(method, path, headers);
        assert_eq!(came, status, "{method} {path} {headers}");
        assert!(body.len() < 100, "{body}");
    }
    assert_eq!(live.figures()["paused"], false);
    let huge = format!("X-Junk: {}\r\n", "a".repeat(1 << 20));
    assert!(matches!(live.ask("GET", "/", &huge).0, 0 | 431));
    // Whoever says nothing is let go.
    let mut silent = TcpStream::connect(&live.address).unwrap();
    silent.write_all(b"GET / HT").unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    assert!(
        silent.read_to_end(&mut Vec::new()).is_ok(),
        "a slow client is kept"
    );
    live.until("others are served", |f| f["frames"].as_u64() > Some(1));
}

#[test]
fn beyond_this_machine_a_token_is_asked_for() {
    let mut live = Live::started(&["--listen", "0.0.0.0:0", CAMERA], "preview at http://");
    assert!(live.said.contains("?token="), "{}", live.said);
    live.hears("everybody on the network");
    let token = live.said.split("?token=").nth(1).unwrap();
    let token = token.split_whitespace().next().unwrap().to_owned();
    live.address = live.address.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(live.ask("GET", "/figures", "").0, 403);
    assert_eq!(live.ask("GET", "/figures?token=0", "").0, 403);
    assert_eq!(
        live.ask("GET", &format!("/figures?token={token}"), "").0,
        200
    );
    let cookie = format!("Cookie: other=1; autochrome={token}\r\n");
    assert_eq!(live.ask("GET", "/figures", &cookie).0, 200);
}

/// A stream with sound is cut off, and comes back larger: the recording goes on, whole, with true times.
#[test]
fn a_source_that_goes_away_is_waited_for() {
    let lab = Lab::new();
    let port = free_port();
    let recording = lab.path("recording.mkv");
    let mut first = Some(sender(port, "320x240"));
    let url = format!("udp://127.0.0.1:{port}");
    let mut live = Live::start(&["-o", recording.to_str().unwrap(), &url]);
    live.until("frames", |f| f["frames"].as_u64() > Some(40));
    stop(first.take().unwrap());
    live.hears("the source is gone");
    assert_eq!(live.figures()["connected"], false);
    assert_eq!(live.ask("GET", "/healthz", "").0, 503);
    let (frames, second) = (live.figures()["frames"].clone(), sender(port, "640x480"));
    let since = Instant::now();
    live.hears("the source is back");
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    live.until("more frames", |f| {
        f["frames"].as_u64() > frames.as_u64().map(|n| n + 40)
    });
    assert_eq!(live.figures()["reconnects"], 1);
    stop(second);
    let (code, said) = live.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("the source is gone").count(), 1, "{said}");
    let times = rises(&recording);
    let gap = times.windows(2).map(|t| t[1] - t[0]).fold(0., f64::max);
    assert!(gap > 3., "the silence is not in the recording: {gap} s");
    let probed = probe(&recording);
    assert_eq!(streams(&probed, "video")[0]["width"], 320);
    assert_eq!(streams(&probed, "audio").len(), 1);
    assert!(lab.leftovers().is_empty());
}

#[test]
fn a_file_and_a_stream_are_written_side_by_side() {
    let lab = Lab::new();
    let port = free_port();
    let received = lab.path("received.mkv");
    let mut receiver = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-i",
            &format!("udp://127.0.0.1:{port}?timeout=5000000"),
        ])
        .args(["-c", "copy"])
        .arg(&received)
        .stdin(Stdio::null())
        .spawn()
        .expect("ffmpeg");
    let file = lab.path("file.mp4");
    let url = format!("udp://127.0.0.1:{port}?pkt_size=1316");
    let args = [
        "--no-preview",
        "--frames",
        "75",
        "-o",
        file.to_str().unwrap(),
        "-o",
        &url,
    ];
    let mut live = Live::started(&[&args[..], &[CAMERA]].concat(), "model ");
    let (code, said) = live.wait();
    assert_eq!(code, 0, "{said}");
    let frames = rises(&file);
    assert!(frames.len() > 10, "{said}");
    // At its own pace, not as fast as it can be drawn.
    assert!((2.5..4.).contains(frames.last().unwrap()), "{frames:?}");
    receiver.wait().unwrap();
    assert!(rises(&received).len() > 10);
}

/// One of two outputs fails on the way: it is told, the other goes on, and the exit code says so.
#[test]
fn an_output_that_fails_stops_no_other() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 2000]).unwrap();
    });
    let file = lab.path("file.mkv");
    let args = [
        "--format",
        "mpegts",
        "-o",
        &url,
        "-o",
        file.to_str().unwrap(),
    ];
    let mut live = Live::start(&[&args[..], &[CAMERA]].concat());
    reader.join().unwrap();
    live.hears("has failed, the others go on");
    let frames = live.figures()["frames"].as_u64();
    live.until("more frames", |f| {
        f["frames"].as_u64() > frames.map(|n| n + 25)
    });
    let (code, said) = live.end();
    assert_eq!(code, 4, "{said}");
    assert!(rises(&file).len() > 25);
}

#[test]
fn what_cannot_be_live_is_said_at_once() {
    let lab = Lab::new();
    let fails = |args: &[&str], code, words: &[&str]| {
        run(autochrome(["live"]).args(args)).fails(code, words);
    };
    fails(&["--no-preview", CAMERA], 2, &["--output"]);
    fails(&["/dev/video99"], 3, &["/dev/video99"]);
    fails(&["lavfi:nonsense"], 3, &["nonsense"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&["--listen", &address, CAMERA], 4, &["--listen"]);
    let there = lab.path("there.mkv");
    std::fs::write(&there, "mine").unwrap();
    fails(
        &["-o", there.to_str().unwrap(), CAMERA],
        4,
        &["exists already"],
    );
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    run(&mut autochrome(["live", "--list"])).ok();
}
