//! Many clients at once, each on a connection of its own that is kept, one request under way on each.
//!
//! What must always hold: the clients take as little of the processors as they can, for they run on the
//! machine of the server: one thread serves all connections, what is sent was signed and rendered
//! before the clock starts, and of an answer only its status and its length are looked at.
//! Every answer must be a success.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{http::Prepared, samples::Samples};

/// More than any answer to a reset.
const ANSWER_BYTES: usize = 4096;

/// What came of a load.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// From the first request to the last answer, in seconds.
    pub took: f64,
    /// From each request to its answer, in seconds.
    pub answers: Samples,
}

/// Sends each client's requests one after another, all clients at once.
pub fn run(server: SocketAddr, requests: &[Vec<Prepared>]) -> anyhow::Result<Loaded> {
    let connect = |requests| Client::connect(server, requests);
    let mut clients =
        requests.iter().map(|all| connect(all)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut answers = Samples::default();
    let begun = Instant::now();
    for client in &mut clients {
        client.send_next()?;
    }
    while clients.iter().any(Client::is_waiting) {
        for place in readable(&clients)? {
            if let Some(took) = clients[place].receive()? {
                answers.add(took);
                clients[place].send_next()?;
            }
        }
    }
    Ok(Loaded { took: begun.elapsed().as_secs_f64(), answers })
}

/// Which clients have something to read; waits until one has.
fn readable(clients: &[Client<'_>]) -> anyhow::Result<Vec<usize>> {
    let waiting: Vec<_> = (0..).zip(clients).filter(|(_, client)| client.is_waiting()).collect();
    let watch = |client| PollFd::new(client, PollFlags::IN);
    let mut watched: Vec<_> = waiting.iter().map(|(_, client)| watch(&client.stream)).collect();
    poll(&mut watched, None).context("waiting for answers")?;
    let ready = waiting.iter().zip(&watched).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|((place, _), _)| *place).collect())
}

struct Client<'r> {
    stream: TcpStream,
    left: std::slice::Iter<'r, Prepared>,
    /// When the request under way was sent.
    sent: Option<Instant>,
    answer: [u8; ANSWER_BYTES],
    received: usize,
}

impl<'r> Client<'r> {
    fn connect(server: SocketAddr, requests: &'r [Prepared]) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).context("connecting a client")?;
        stream.set_nodelay(true)?;
        let (left, answer) = (requests.iter(), [0; ANSWER_BYTES]);
        Ok(Self { stream, left, sent: None, answer, received: 0 })
    }

    fn is_waiting(&self) -> bool {
        self.sent.is_some()
    }

    fn send_next(&mut self) -> anyhow::Result<()> {
        let Some(request) = self.left.next() else { return Ok(()) };
        self.sent = Some(Instant::now());
        Ok(self.stream.write_all(request.as_bytes())?)
    }

    /// Reads what is there; the seconds since the request, once its answer is whole.
    fn receive(&mut self) -> anyhow::Result<Option<f64>> {
        let more = self.stream.read(&mut self.answer[self.received..])?;
        ensure!(more > 0, "the server ended a connection, or said too much");
        self.received += more;
        let answer = &self.answer[..self.received];
        let Some(length) = length_of(answer)? else { return Ok(None) };
        if self.received < length {
            return Ok(None);
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            bail!("refused: {}", String::from_utf8_lossy(answer));
        }
        self.received = 0;
        Ok(self.sent.take().map(|sent| sent.elapsed().as_secs_f64()))
    }
}

/// How long an answer is with its head; none while its head is not whole.
fn length_of(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().context("an answer without a length")?;
    Ok(Some(head.len() + 4 + length.trim().parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn the_length_of_an_answer_is_known_once_its_head_is_whole() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(length_of(&head[..head.len() - 1]).unwrap(), None);
        assert_eq!(length_of(head).unwrap(), Some(head.len() + 2));
        length_of(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    }

    /// Answers each request of one connection, in two pieces.
    fn serve(listener: &TcpListener, answer: &str) {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, (one, other)) = ([0; 1024], answer.split_at(answer.len() / 2));
        while stream.read(&mut request).unwrap_or(0) > 0 {
            stream.write_all(one.as_bytes()).unwrap();
            thread::yield_now();
            stream.write_all(other.as_bytes()).unwrap();
        }
    }

    fn load(answer: &'static str) -> anyhow::Result<Loaded> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..2 {
            let listener = listener.try_clone().unwrap();
            thread::spawn(move || serve(&listener, answer));
        }
        let requests = vec![vec![Prepared::plain("DescribeDisks", &[]); 3]; 2];
        run(address, &requests)
    }

    #[test]
    fn every_request_is_answered_once() {
        let loaded = load("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(loaded.answers.values().len(), 6);
    }

    #[test]
    fn a_refusal_ends_the_load() {
        let refused = load("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").unwrap_err();
        assert!(refused.to_string().contains("404"), "{refused}");
    }
}
