//! The preview page in a browser, driven through WebDriver. Not part of CI, for it needs Chromium and its driver (Debian:
//! `chromium-driver`); run it by
//!
//! ```text
//! cargo test --release --test page -- --ignored --nocapture
//! ```
//!
//! A screenshot is left in the folder that PAGE_SHOTS names, to be looked at.

mod common;
use common::{live::*, *};

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::RgbImage;
use serde_json::{Value, json};

/// A browser with one window.
struct Browser {
    driver: Child,
    address: String,
    session: String,
}

impl Browser {
    fn open(downloads: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver, of Debian's chromium-driver");
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
        };
        let since = Instant::now();
        while TcpStream::connect(&browser.address).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "no chromedriver");
            thread::sleep(Duration::from_millis(50));
        }
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"],
            "prefs": { "download.default_directory": downloads },
        });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let opened = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", opened["sessionId"].as_str().unwrap());
        browser
    }

    /// The value of an answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("chromedriver");
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.session,
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while answer.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["value"]["error"].is_null(), "{method} {path}: {body}");
        body["value"].take()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, &body)
    }

    /// What an expression of the page's is.
    fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    fn until(&self, expression: &str) {
        let since = Instant::now();
        while self.value(expression) != true {
            let late = since.elapsed() > Duration::from_secs(20);
            assert!(!late, "never: {expression}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": css }));
        found
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn click(&self, css: &str) {
        self.post(&format!("/element/{}/click", self.element(css)), json!({}));
    }

    fn keys(&self, css: &str, keys: &str) {
        let path = format!("/element/{}/value", self.element(css));
        self.post(&path, json!({ "text": keys }));
    }

    /// Drags from one place to another with the mouse held down.
    fn drag(&self, from: (i64, i64), to: (i64, i64)) {
        let at =
            |(x, y): (i64, i64)| json!({ "type": "pointerMove", "duration": 50, "x": x, "y": y });
        let actions = json!([at(from), { "type": "pointerDown", "button": 0 }, at(to), { "type": "pointerUp", "button": 0 }]);
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": actions });
        self.post("/actions", json!({ "actions": [mouse] }));
    }

    fn screenshot(&self, name: &str) -> RgbImage {
        let text = self.ask("GET", "/screenshot", &Value::Null);
        let png = STANDARD.decode(text.as_str().unwrap()).unwrap();
        if let Some(folder) = std::env::var_os("PAGE_SHOTS") {
            fs::write(Path::new(&folder).join(name), &png).unwrap();
        }
        image::load_from_memory(&png).unwrap().to_rgb8()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.ask("DELETE", "", &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Left, top, width and height of the picture in the window.
fn picture(browser: &Browser) -> [i64; 4] {
    let place = browser.value(
        "(r => [r.left, r.top, r.width, r.height].map(Math.round))(at('live').getBoundingClientRect())",
    );
    std::array::from_fn(|i| place[i].as_i64().unwrap())
}

#[test]
#[ignore = "needs chromium-driver"]
fn the_page_is_used_with_mouse_keys_and_a_small_screen() {
    const CAMERA: &str = "lavfi:testsrc2=size=640x360:rate=25,hue=s=0";
    let lab = Lab::new();
    let live = Live::start(&[CAMERA]);
    let browser = Browser::open(lab.dir());
    browser.post(
        "/url",
        json!({ "url": format!("http://{}/", live.address) }),
    );
    browser.until("at('live').naturalWidth == 640 && parseFloat(at('fps').textContent) > 5");
    browser.until("/^\\d+ \\/ \\d+ ms$/.test(at('delay').textContent)");
    browser.until(
        "parseInt(at('runs').textContent) > 0 && at('model').textContent.includes('constant')",
    );

    // The slider follows the mouse; what lies before it is grey, and behind it in colour.
    let [left, top, width, height] = picture(&browser);
    let middle = top + height / 2;
    browser.drag((left + width / 2, middle), (left + width / 4, middle));
    browser.until("at('before').style.width != ''");
    let split = browser
        .value("parseFloat(at('before').style.width)")
        .as_f64()
        .unwrap();
    assert!((20. ..30.).contains(&split), "{split} %");
    let shot = browser.screenshot("page.png");
    let colour = |from: f64, to: f64| {
        let at = |share: f64| left as u32 + (share * width as f64) as u32;
        let (x, w) = (at(from), at(to) - at(from));
        let part = image::imageops::crop_imm(&shot, x, top as u32, w, height as u32);
        Pictures::colour(&part.to_image())
    };
    let (before, after) = (colour(0.02, 0.2), colour(0.3, 0.98));
    assert!(before < 2. && after > 15., "{before} before, {after} after");

    // And the keys.
    browser.keys("#split", "\u{e014}\u{e014}\u{e014}");
    let moved = browser
        .value("parseFloat(at('before').style.width)")
        .as_f64()
        .unwrap();
    assert_eq!(moved, split + 3.);
    browser.keys("#saturation", &"\u{e012}".repeat(10));
    live.until("weaker colours", |f| f["saturation"] == 0.5);
    assert_eq!(browser.value("at('factor').value"), "0.5");
    browser.keys("#pause", "\u{e007}");
    live.until("a pause", |f| f["paused"] == true);
    assert_eq!(
        browser.value("at('pause').getAttribute('aria-pressed')"),
        "true"
    );
    browser.click("#pause");
    live.until("the end of it", |f| f["paused"] == false);

    browser.click("#shot");
    let saved = lab.path("before-after.png");
    let since = Instant::now();
    let saved = loop {
        match image::open(&saved) {
            Ok(saved) => break saved.to_rgb8(),
            Err(e) => assert!(since.elapsed() < Duration::from_secs(20), "{e}"),
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(saved.dimensions(), (1280, 360));

    browser.post("/window/rect", json!({ "width": 400, "height": 800 }));
    browser.until("document.documentElement.scrollWidth <= innerWidth");
    let [left, _, width, _] = picture(&browser);
    assert!(left >= 0 && width > 300, "{width} px of a small screen");
    browser.screenshot("small.png");
}
