//! A registry that does what a test wants: a plain HTTP/1.1 server on threads, whose answers are written byte by byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dimsum_source::Reference;

use crate::real::parse;

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// Where an answer goes.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Answers a request; an error closes the connection.
pub(crate) type Handler = dyn Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync;
/// Makes a connection of a socket: TLS, or nothing.
pub(crate) type Wrap = dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync;

#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_wrapped(|socket| Box::new(socket), handler)
    }

    pub(crate) fn start_wrapped(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
        handler: impl Fn(&Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (handler, wrap): (Arc<Handler>, Arc<Wrap>) = (Arc::new(handler), Arc::new(wrap));
        let server = Self { address, seen: Arc::clone(&seen), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, wrap, seen) = (Arc::clone(&handler), Arc::clone(&wrap), Arc::clone(&seen));
                std::thread::spawn(move || drop(serve(wrap(socket.unwrap()), &*handler, &seen)));
            }
        });
        server
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        parse(&format!("docker://{}/{name}", self.address))
    }

    /// Returns what was asked for, the looking for a registry excepted.
    pub(crate) fn seen(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.target != "/v2/").cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: Box<dyn Stream>, handler: &Handler, seen: &Mutex<Vec<Request>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        seen.lock().unwrap().push(request.clone());
        handler(&request, stream.get_mut())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

fn read(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let mut first = lines.first().ok_or_else(bad)?.split(' ');
    let (method, target) = (first.next().ok_or_else(bad)?.to_owned(), first.next().ok_or_else(bad)?.to_owned());
    let headers: BTreeMap<_, _> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse()).map_err(|_| bad())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Request { method, target, headers, body }))
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the range that was asked for.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok().map(|last| last + 1)))
    }
}

/// Writes an answer with its length.
pub(crate) fn answer(stream: &mut dyn Stream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
    let length = body.len().to_string();
    head(stream, status, &[headers, &[("Content-Length", &length)]].concat())?;
    stream.write_all(body)
}

/// Writes the head of an answer.
pub(crate) fn head(stream: &mut dyn Stream, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Test\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all((text + "\r\n").as_bytes())
}

/// Answers as a good registry does that has one blob.
pub(crate) fn blob(request: &Request, stream: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
    if request.target == "/v2/" {
        return answer(stream, 200, &[], b"{}");
    }
    let Some((start, end)) = request.range() else { return answer(stream, 200, &[], bytes) };
    let end = end.unwrap_or(bytes.len());
    let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
    answer(stream, 206, &[("Content-Range", &range)], &bytes[start..end])
}

/// Closes the connection.
pub(crate) fn hang_up() -> io::Result<()> {
    Err(io::ErrorKind::ConnectionAborted.into())
}
