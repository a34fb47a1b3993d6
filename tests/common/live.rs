//! A running `autochrome live`, seen from outside, and senders for it to listen to.

use super::{autochrome, signal};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A running `autochrome live`, ended when it is dropped.
pub struct Live {
    pub child: Child,
    stderr: mpsc::Receiver<String>,
    /// Host and port of the preview.
    pub address: String,
    /// What it has said so far.
    pub said: String,
}

impl Live {
    /// With a preview on any free port; returns once that is there.
    pub fn start(args: &[&str]) -> Self {
        Self::started(
            &[&["--listen", "127.0.0.1:0"], args].concat(),
            "preview at http://",
        )
    }

    /// Returns once it has said `word`.
    pub fn started(args: &[&str], word: &str) -> Self {
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
    pub fn hears(&mut self, word: &str) -> String {
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
    pub fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
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

    pub fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn figures(&self) -> Value {
        serde_json::from_str(&self.get("/figures")).unwrap()
    }

    pub fn set(&self, what: &str, value: &str) -> u16 {
        self.ask(
            "POST",
            &format!("/{what}?value={value}"),
            "X-Autochrome: 1\r\n",
        )
        .0
    }

    /// Waits until the figures say so.
    pub fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
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
    pub fn end(mut self) -> (i32, String) {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> (i32, String) {
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
pub struct Pictures(BufReader<TcpStream>);

impl Pictures {
    pub fn of(live: &Live) -> Self {
        let mut stream = TcpStream::connect(&live.address).unwrap();
        let request = format!("GET /stream HTTP/1.1\r\nHost: {}\r\n\r\n", live.address);
        stream.write_all(request.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    pub fn next(&mut self) -> image::RgbImage {
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
    pub fn colour(picture: &image::RgbImage) -> f64 {
        let spread = |p: &image::Rgb<u8>| {
            let (least, most) = (p.0.iter().min().unwrap(), p.0.iter().max().unwrap());
            f64::from(most - least)
        };
        picture.pixels().map(spread).sum::<f64>() / (picture.width() * picture.height()) as f64
    }
}

pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// `ffmpeg` sends a test picture of this size, with sound, to a UDP port at its own pace.
pub fn sender(port: u16, size: &str) -> Child {
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

/// `ffmpeg` that sends a test picture with sound, at its own pace; begun again whenever it ends, as who listens may come
/// later than who calls.
pub struct Peer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    /// `to` is a muxer, its options and an address.
    pub fn sending(to: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut command = Command::new("ffmpeg");
        command
            .args(["-v", "quiet", "-y", "-re", "-f", "lavfi"])
            .args(["-i", "testsrc2=size=320x240:rate=25,hue=s=0"])
            .args(["-re", "-f", "lavfi", "-i", "sine=r=48000"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "12"])
            .args(["-tune", "zerolatency", "-pix_fmt", "yuv420p", "-c:a", "aac"])
            .arg("-f")
            .args(to)
            .stdin(Stdio::null());
        let ended = stop.clone();
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let mut child = command.spawn().expect("ffmpeg");
                while child.try_wait().expect("its state").is_none() {
                    if ended.load(Ordering::Relaxed) {
                        return super::live::stop(child);
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves a folder's files over HTTP for as long as the test runs; its address.
pub fn folder_at(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut line) = (stream.unwrap(), String::new());
            let mut asked = BufReader::new(stream.try_clone().unwrap());
            let _ = asked.read_line(&mut line);
            let mut rest = String::new();
            while asked.read_line(&mut rest).is_ok_and(|n| n > 2) {
                rest.clear();
            }
            let name = line.split(['/', ' ']).nth(2).unwrap_or_default();
            let (status, body) = match std::fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

pub fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
