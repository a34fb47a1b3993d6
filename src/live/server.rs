//! Server: the preview page over HTTP/1. It answers a handful of addresses and nothing else; what a client may send,
//! and how long it may take, is limited; whoever reads slowly gets fewer pictures and holds nobody up.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::{Either, Full, channel::Channel};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, oneshot};

use super::{Hub, hub::Newest};
use crate::{
    error::{Error, Result},
    stage::Apart,
};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Longest that a client may take to say what it wants, or to read one picture.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of what it says.
const HEADERS: usize = 16 << 10;
/// Between two pictures of a stream.
const BOUNDARY: &str = "autochrome";
/// What scripts must send with what changes something: a page of another site cannot, without being asked first.
const OURS: &str = "x-autochrome";

type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;
type Answer = Response<Body>;

/// A running preview page. Dropping it ends it.
pub struct Server {
    address: SocketAddr,
    token: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<Apart<()>>,
}

impl Server {
    /// Listens at `address`; beyond this machine only whoever knows the token gets an answer.
    ///
    /// # Errors
    /// The address is taken, or is none of this machine's.
    pub fn start(hub: Arc<Hub>, address: SocketAddr) -> Result<Self> {
        let refused = |e: std::io::Error| {
            Error::output(
                format!("http://{address}"),
                format!(
                    "the preview cannot be shown there: {e}; name another address with --listen, or --no-preview"
                ),
            )
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let token = (!address.ip().is_loopback()).then(drawn);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(refused)?;
        let desk = Arc::new(Desk {
            hub,
            token: token.clone(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => _ = tokio::spawn(accept(listener, desk)),
                    // It was made a moment ago.
                    Err(_) => return,
                }
                let _ = stopped.await;
            });
        };
        let thread = Apart::start("preview", work)?;
        Ok(Self {
            address,
            token,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it is to be seen.
    pub fn url(&self) -> String {
        let token = self.token.as_ref();
        let query = token.map_or(String::new(), |token| format!("?token={token}"));
        format!("http://{}/{query}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Already gone is as good.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A token that nobody guesses.
fn drawn() -> String {
    format!("{:032x}", rand::random::<u128>())
}

async fn accept(listener: tokio::net::TcpListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: the others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        // A picture is to leave when it is there.
        let _ = stream.set_nodelay(true);
        let desk = desk.clone();
        tokio::spawn(async move {
            let answered = service_fn(|request| {
                let answer = desk.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(HEADERS)
                .serve_connection(TokioIo::new(stream), answered);
            // A client that goes away in the middle is nobody's trouble.
            let _ = served.await;
            drop(place);
        });
    }
}

/// Who answers.
struct Desk {
    hub: Arc<Hub>,
    token: Option<String>,
}

impl Desk {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !self.may(request) {
            return said(StatusCode::FORBIDDEN, "text/plain", "not from here\n");
        }
        let value = value(request, "value");
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.page(),
            (&Method::GET, "/stream") => self.stream(),
            (&Method::GET, "/figures") => match serde_json::to_string(&self.hub.figures()) {
                Ok(json) => said(StatusCode::OK, "application/json", json),
                Err(_) => said(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    "no figures\n",
                ),
            },
            (&Method::GET, "/metrics") => said(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                self.hub.metrics(),
            ),
            (&Method::GET, "/healthz") => match self.hub.figures().connected {
                true => said(StatusCode::OK, "text/plain", "ok\n"),
                false => said(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "no source\n"),
            },
            (&Method::POST, "/saturation") => match value.and_then(|v| v.parse().ok()) {
                Some(factor) if (0. ..=4.).contains(&factor) => {
                    self.hub.saturate(factor);
                    said(StatusCode::OK, "text/plain", "")
                }
                _ => said(
                    StatusCode::BAD_REQUEST,
                    "text/plain",
                    "value must be 0 to 4\n",
                ),
            },
            (&Method::POST, "/pause") => match value.and_then(|v| v.parse().ok()) {
                Some(paused) => {
                    self.hub.pause(paused);
                    said(StatusCode::OK, "text/plain", "")
                }
                None => said(
                    StatusCode::BAD_REQUEST,
                    "text/plain",
                    "value must be true or false\n",
                ),
            },
            (&Method::GET | &Method::POST, _) => {
                said(StatusCode::NOT_FOUND, "text/plain", "not here\n")
            }
            _ => said(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "GET or POST\n",
            ),
        }
    }

    /// Whether a request is from somebody who may look, and not from another site's page in their browser.
    fn may(&self, request: &Request<Incoming>) -> bool {
        let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
        let known = match &self.token {
            Some(token) => {
                let cookie = format!("{BOUNDARY}={token}");
                let cookies = text("cookie").unwrap_or_default();
                value(request, "token").is_some_and(|given| given == token)
                    || cookies.split("; ").any(|given| given == cookie)
            }
            // A name that was made to lead here is not this machine's (DNS rebinding).
            None => text("host").is_some_and(is_this_machine),
        };
        let own = match text("sec-fetch-site") {
            Some(site) => matches!(site, "same-origin" | "none"),
            None => true,
        };
        let asked = request.method() != Method::POST || text(OURS).is_some();
        known && own && asked
    }

    fn page(&self) -> Answer {
        let mut page = said(
            StatusCode::OK,
            "text/html; charset=utf-8",
            include_str!("page.html"),
        );
        let policy = "default-src 'none'; img-src 'self' blob:; connect-src 'self'; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; frame-ancestors 'none'";
        let headers = page.headers_mut();
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(policy),
        );
        if let Some(token) = &self.token
            && let Ok(cookie) = format!("{BOUNDARY}={token}; HttpOnly; SameSite=Strict").parse()
        {
            headers.insert(header::SET_COOKIE, cookie);
        }
        page
    }

    /// Pictures without end, each in the place of the one before.
    fn stream(&self) -> Answer {
        let (mut to, body) = Channel::new(1);
        let mut pictures = self.hub.pictures();
        tokio::spawn(async move {
            while pictures.changed().await.is_ok() {
                let Some(Newest { jpeg, arrived }) = pictures.borrow_and_update().clone() else {
                    continue;
                };
                let arrived = arrived
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default();
                let head = format!(
                    "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nX-Arrived: {:.6}\r\nContent-Length: {}\r\n\r\n",
                    arrived.as_secs_f64(),
                    jpeg.len()
                );
                let part = [head.as_bytes(), &jpeg, b"\r\n"].concat();
                let sent = tokio::time::timeout(PATIENCE, to.send_data(part.into()));
                if !matches!(sent.await, Ok(Ok(()))) {
                    break;
                }
            }
        });
        let mut answer = Response::new(Either::Right(body));
        let kind = HeaderValue::from_static("multipart/x-mixed-replace; boundary=autochrome");
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

fn said(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let sniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, sniff);
    answer
}

/// A value of the query; none that is used has characters that would be written otherwise.
fn value<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    matches!(name, Some("localhost" | "::1")) || name.is_some_and(|name| name.starts_with("127."))
}
