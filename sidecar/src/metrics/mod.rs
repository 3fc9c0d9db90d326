//! Metrics for Prometheus: a thread of their own answers `GET /metrics` on a Unix socket and on loopback TCP, from what the
//! board says. The hot path knows nothing of it.

mod families;
mod process;
mod text;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringlane_layout::board::service;
use ringlane_layout::limits::SCRAPE_REQUEST_BYTES_MAX;

use crate::board::BoardRow;
use crate::config::MetricsConfig;
use crate::cores;

/// How long one scraper may take with its request, and with taking the answer.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(1);

/// Where the metrics are answered.
struct Listeners {
    unix: Option<UnixListener>,
    tcp: Option<TcpListener>,
}

/// A scraper's connection.
trait Connection: Read + Write {
    fn bound(&self) -> std::io::Result<()>;
}

impl Connection for UnixStream {
    fn bound(&self) -> std::io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(SCRAPE_PATIENCE)).and_then(|()| self.set_write_timeout(Some(SCRAPE_PATIENCE)))
    }
}

impl Connection for std::net::TcpStream {
    fn bound(&self) -> std::io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(SCRAPE_PATIENCE)).and_then(|()| self.set_write_timeout(Some(SCRAPE_PATIENCE)))
    }
}

/// Begins to answer scrapes of the board at `address`, if that is configured; gives the TCP address in use. The thread ends
/// with the process; it leaves the core `avoid_cpu` to the sequencer.
pub fn answer_scrapes(
    config: &MetricsConfig,
    address: &str,
    row: BoardRow,
    avoid_cpu: Option<usize>,
) -> Result<Option<SocketAddr>, String> {
    if config.socket.is_none() && config.listen.is_none() {
        return Ok(None);
    }
    let unix = config.socket.as_deref().map(listen_unix).transpose()?;
    let tcp = config.listen.map(listen_tcp).transpose()?;
    let local = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
    if let Some(local) = local {
        tracing::info!(%local, "metrics");
    }
    let address = address.to_owned();
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            avoid_cpu.into_iter().for_each(cores::leave);
            serve(&Listeners { unix, tcp }, &address, &row);
        })
        .map_err(|error| format!("cannot start the metrics thread: {error}"))?;
    Ok(local)
}

fn listen_tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let listening = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listening.map_err(|error| format!("cannot listen for metrics at {address} (metrics.listen): {error}"))
}

/// Listens at a path; a socket that a dead sidecar left there is replaced.
fn listen_unix(path: &Path) -> Result<UnixListener, String> {
    let say = |error: &dyn std::fmt::Display| format!("cannot listen for metrics at {} (metrics.socket): {error}", path.display());
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(say(&"another program listens there"));
        }
        std::fs::remove_file(path).map_err(|error| say(&error))?;
    }
    let listener = UnixListener::bind(path).map_err(|error| say(&error))?;
    // The board says the same to everybody.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(|error| say(&error))?;
    listener.set_nonblocking(true).map_err(|error| say(&error))?;
    Ok(listener)
}

fn serve(listeners: &Listeners, address: &str, row: &BoardRow) {
    loop {
        let fds = [listeners.unix.as_ref().map(AsFd::as_fd), listeners.tcp.as_ref().map(AsFd::as_fd)];
        let mut waiting: Vec<PollFd> = fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut waiting, PollTimeout::from(60_000_u16));
        if let Some(Ok((stream, _))) = listeners.unix.as_ref().map(UnixListener::accept) {
            note(row, answer(stream, address));
        }
        if let Some(Ok((stream, _))) = listeners.tcp.as_ref().map(TcpListener::accept) {
            note(row, answer(stream, address));
        }
    }
}

fn note(row: &BoardRow, answered: std::io::Result<()>) {
    row.add(if answered.is_ok() { service::SCRAPES } else { service::SCRAPES_FAILED }, 1);
}

/// Answers one request, within a bounded time.
fn answer(mut stream: impl Connection, address: &str) -> std::io::Result<()> {
    stream.bound()?;
    let request = read_request(&mut stream)?;
    let mut words = request.split_ascii_whitespace();
    let (status, kind, body) = match (words.next(), words.next().map(|path| path.split('?').next().unwrap_or(""))) {
        (Some("GET"), Some("/metrics")) => {
            let (kind, body) = text::exposition(address, request.contains("application/openmetrics-text"));
            ("200 OK", kind, body)
        }
        (Some("GET"), _) => ("404 Not Found", "text/plain", "The metrics are at /metrics.\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "Only GET is known here.\n".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    if status == "200 OK" { Ok(()) } else { Err(std::io::ErrorKind::InvalidInput.into()) }
}

fn read_request(stream: &mut impl Connection) -> std::io::Result<String> {
    let (mut request, until) = (Vec::new(), Instant::now() + SCRAPE_PATIENCE);
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..count]);
        if count == 0 || request.len() > SCRAPE_REQUEST_BYTES_MAX || Instant::now() > until {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}
