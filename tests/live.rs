//! Live: cameras and streams from end to end, over loopback, with the `ffmpeg` program as the other side and `lavfi` as the
//! camera that no build machine has.

mod common;
use common::{live::*, *};

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const CAMERA: &str = "lavfi:testsrc2=size=320x240:rate=25,hue=s=0";

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
    // It says nothing once it listens.
    thread::sleep(Duration::from_secs(1));
    let file = lab.path("file.mp4");
    let url = format!("udp://127.0.0.1:{port}?pkt_size=1316");
    let args = [
        "--no-preview",
        "--frames",
        "150",
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
    assert!((5. ..8.).contains(frames.last().unwrap()), "{frames:?}");
    receiver.wait().unwrap();
    // Whoever comes late waits for a key frame, two seconds at most.
    assert!(rises(&received).len() > 30);
}

/// One of two outputs fails on the way: it is told, the other goes on, and the exit code says so.
#[test]
fn an_output_that_fails_stops_no_other() {
    let lab = Lab::new();
    let pipe = lab.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let from = pipe.clone();
    // Whoever reads has enough after a while.
    thread::spawn(move || {
        let mut reader = std::fs::File::open(from).unwrap();
        reader.read_exact(&mut [0; 20_000]).unwrap();
    });
    let file = lab.path("file.mkv");
    let args = [
        "--format",
        "matroska",
        "-o",
        pipe.to_str().unwrap(),
        "-o",
        file.to_str().unwrap(),
    ];
    let mut live = Live::start(&[&args[..], &[CAMERA]].concat());
    live.hears("has failed, the others go on");
    let frames = live.figures()["frames"].as_u64();
    live.until("more frames", |f| {
        f["frames"].as_u64() > frames.map(|n| n + 25)
    });
    let (code, said) = live.end();
    assert_eq!(code, 4, "{said}");
    assert!(rises(&file).len() > 25);
}

/// When the sound's packets begin, in seconds.
fn heard(film: &Path) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "a:0", "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time"])
        .arg(film)
        .output()
        .expect("ffprobe");
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.lines().map(|line| line.trim_matches(','));
    times.filter_map(|time| time.parse().ok()).collect()
}

/// However many look on, each picture is made once.
#[test]
fn ten_viewers_are_shown_the_same_pictures() {
    let live = Live::start(&[CAMERA]);
    assert_eq!(live.figures()["pictures"], 0);
    let mut viewers: Vec<Pictures> = (0..10).map(|_| Pictures::of(&live)).collect();
    // One of them never reads.
    let idle = viewers.pop();
    for _ in 0..30 {
        for viewer in &mut viewers {
            viewer.next();
        }
    }
    let figures = live.figures();
    assert_eq!(figures["viewers"], 10);
    assert!(figures["pictures"].as_u64() <= figures["frames"].as_u64());
    drop(idle);
}

/// A recording in pieces: each plays by itself, and none of the sound between them is missing.
#[test]
fn a_recording_goes_on_in_the_next_file() {
    let lab = Lab::new();
    let port = free_port();
    let sender = sender(port, "320x240");
    let film = lab.path("film.mp4");
    // From an earlier run, and not to be touched.
    std::fs::write(lab.path("film-00007.mp4"), "mine").unwrap();
    let url = format!("udp://127.0.0.1:{port}");
    let args = [
        "--no-preview",
        "--rotate",
        "2",
        "--duration",
        "8",
        "-o",
        film.to_str().unwrap(),
        &url,
    ];
    let (code, said) = Live::started(&args, "model ").wait();
    stop(sender);
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read(lab.path("film-00007.mp4")).unwrap(), b"mine");
    let files: Vec<_> = (8..)
        .map(|number| lab.path(&format!("film-{number:05}.mp4")))
        .take_while(|file| file.exists())
        .collect();
    assert!((3..6).contains(&files.len()), "{files:?}: {said}");
    let (mut frames, mut sound) = (0, 0.);
    for file in &files {
        let times = rises(file);
        frames += times.len();
        assert!(times.last() < Some(&3.5), "{times:?}");
        let packets = heard(file);
        sound += packets.len() as f64 * 1024. / 48000.;
        // The last file may be too short for any.
        let first = packets.first().copied().unwrap_or(0.);
        assert!(file == &files[0] || first < 0.04, "sound begins at {first}");
    }
    let seconds = frames as f64 / 25.;
    assert!((sound - seconds).abs() < 1.2, "{sound} of {seconds} s");
    assert!(lab.leftovers().is_empty());
}

/// What cannot be made again is there even after a power cut, but for its last second or two.
#[test]
fn a_recording_outlives_its_program() {
    for name in ["film.mp4", "film.mkv"] {
        let lab = Lab::new();
        let film = lab.path(name);
        let mut live = Live::start(&["-o", film.to_str().unwrap(), CAMERA]);
        live.until("frames", |f| f["frames"].as_u64() > Some(120));
        live.child.kill().unwrap();
        live.wait();
        let part = lab.path(&format!("{name}.part"));
        let frames = rises(&part).len();
        assert!(!film.exists() && frames > 50, "{name}: {frames} frames");
        // Nor does a second run under the same name take it away.
        let again = ["live", "--no-preview", "-o", film.to_str().unwrap(), CAMERA];
        run(&mut autochrome(again)).fails(4, &[&format!("{name}.part"), "--force"]);
        assert_eq!(rises(&part).len(), frames);
    }
}

/// A receiver goes away and another comes: frames are left out in between, nothing else suffers.
#[test]
fn an_address_is_called_again() {
    let lab = Lab::new();
    let url = format!("rtmp://127.0.0.1:{}/live/stream", free_port());
    let receiver = |film: &Path| {
        let child = Command::new("ffmpeg")
            .args([
                "-v", "error", "-y", "-listen", "1", "-i", &url, "-c", "copy",
            ])
            .arg(film)
            .stdin(Stdio::null())
            .spawn()
            .expect("ffmpeg");
        // It says nothing once it listens.
        thread::sleep(Duration::from_millis(1500));
        child
    };
    let (first, second) = (lab.path("first.mkv"), lab.path("second.mkv"));
    let receiving = receiver(&first);
    let mut live = Live::start(&["-o", &url, CAMERA]);
    live.until("frames", |f| f["frames"].as_u64() > Some(40));
    stop(receiving);
    live.hears("is gone");
    let mut receiving = receiver(&second);
    live.hears("is back");
    let frames = live.figures()["frames"].as_u64();
    live.until("more frames", |f| {
        f["frames"].as_u64() > frames.map(|n| n + 50)
    });
    let (code, said) = live.end();
    receiving.wait().unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("were left out while it was gone"), "{said}");
    let times = rises(&second);
    assert!(times.len() > 25 && times[0] < 1., "{times:?}");
}

/// Every way that streams come: listening for a sender, or calling a server.
#[test]
fn streams_of_every_protocol_are_read() {
    let lab = Lab::new();
    let folder = lab.path("hls");
    std::fs::create_dir(&folder).unwrap();
    let playlist = folder.join("live.m3u8");
    let at = |scheme: &str, path: &str| format!("{scheme}://127.0.0.1:{}{path}", free_port());
    let (rtmp, rtsp, srt) = (at("rtmp", "/live/a"), at("rtsp", "/live"), at("srt", ""));
    let (http, hls) = (at("http", "/live.ts"), folder_at(&folder) + "/live.m3u8");
    let listening = srt.clone() + "?mode=listener";
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (url, given, sent) in [
        (
            &rtmp,
            &["--input-option", "listen=1"][..],
            &["flv", &rtmp][..],
        ),
        (
            &rtsp,
            &["--input-option", "rtsp_flags=listen"],
            &["rtsp", "-rtsp_transport", "tcp", &rtsp],
        ),
        (&listening, &[], &["mpegts", &srt]),
        (&http, &[], &["mpegts", "-listen", "1", &http]),
        (
            &hls,
            &[],
            &[
                "hls",
                "-hls_time",
                "1",
                "-hls_list_size",
                "4",
                &text(&playlist),
            ],
        ),
    ] {
        let film = lab.path("film.mkv");
        let peer = Peer::sending(sent);
        if url == &hls {
            let since = Instant::now();
            while !folder.join("live2.ts").exists() {
                assert!(since.elapsed() < Duration::from_secs(30));
                thread::sleep(Duration::from_millis(50));
            }
        } else if url == &http {
            thread::sleep(Duration::from_millis(1500));
        }
        let args = [
            &[
                "--no-preview",
                "--force",
                "--frames",
                "60",
                "-o",
                &text(&film),
            ],
            given,
            &[url],
        ];
        let (code, said) = Live::started(&args.concat(), "model ").wait();
        drop(peer);
        assert_eq!(code, 0, "{url}: {said}");
        let times = rises(&film);
        assert!(times.len() > 30, "{url}: {said}");
        // Two of the senders' seconds and a half, whatever their clock began at.
        let span = times.last().unwrap() - times[0];
        assert!((1.5..6.).contains(&span), "{url}: {span} s");
        assert_eq!(streams(&probe(&film), "audio").len(), 1, "{url}");
    }
}

/// MPEG-TS counts 33 bits of a 90 kHz clock: after 26 hours and a half it begins again.
#[test]
fn a_clock_that_begins_again_is_nothing_new() {
    let lab = Lab::new();
    let (port, film) = (free_port(), lab.path("film.mkv"));
    let url = format!("udp://127.0.0.1:{port}");
    let target = url.clone() + "?pkt_size=1316";
    // Three seconds before.
    let peer = Peer::sending(&["mpegts", "-output_ts_offset", "95440.7", &target]);
    let args = [
        "--no-preview",
        "--frames",
        "200",
        "-o",
        film.to_str().unwrap(),
        &url,
    ];
    let (code, said) = Live::started(&args, "model ").wait();
    drop(peer);
    assert_eq!(code, 0, "{said}");
    let times = rises(&film);
    let step = times.windows(2).map(|t| t[1] - t[0]).fold(0., f64::max);
    assert!(step < 1. && times.last() > Some(&6.), "{times:?}");
    assert!(!said.contains("gone"), "{said}");
}

#[test]
fn programs_can_read_what_is_said() {
    let (code, said) = Live::started(
        &[
            "--no-preview",
            "--log",
            "json",
            "--frames",
            "20",
            "-o",
            "/dev/null",
            "--format",
            "matroska",
            CAMERA,
        ],
        "model ",
    )
    .wait();
    assert_eq!(code, 0, "{said}");
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert!(lines.len() > 1);
    for line in &lines {
        assert_eq!(line["level"], "info", "{line}");
        assert!(line["time"].as_f64() > Some(1.7e9) && line["message"].is_string());
    }
    let missing = run(autochrome(["live", "--log", "json"]).arg("/dev/video99"));
    missing.fails(3, &[r#""level":"error""#]);
}

#[test]
fn what_cannot_be_live_is_said_at_once() {
    let lab = Lab::new();
    let fails = |args: &[&str], code, words: &[&str]| {
        run(autochrome(["live"]).args(args)).fails(code, words);
    };
    fails(&["--no-preview", CAMERA], 2, &["--output"]);
    fails(&["/dev/video99"], 3, &["/dev/video99", "live --list"]);
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
    fails(
        &["-o", "film.mkv", "--rotate", "soon", CAMERA],
        2,
        &["nor a size"],
    );
    fails(&["-o", "-", "--rotate", "60", CAMERA], 2, &["--rotate"]);
    fails(&["-o", "/dev/video99", CAMERA], 4, &["/dev/video99"]);
    assert!(!Path::new("/dev/video99.part").exists());
    run(&mut autochrome(["live", "--list"])).ok();
}
