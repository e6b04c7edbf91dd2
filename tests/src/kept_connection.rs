//! One connection that many signed calls go over, one after another, as the pools of the SDKs keep it.
//!
//! What must always hold: an answer is whole or it is none; after an error the next call opens the connection anew.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::signature::Signed;

/// No answer may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A connection to one address, opened when it is needed.
#[derive(Debug)]
pub struct KeptConnection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl KeptConnection {
    /// To `ADDRESS:PORT`.
    pub fn to(address: &str) -> Self {
        Self { address: address.into(), stream: None }
    }

    /// Sends one call; gives the status and the body of its answer.
    pub fn post(&mut self, signed: &Signed) -> io::Result<(u16, String)> {
        // Whatever goes wrong leaves no connection behind that is out of step.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        let mut request = format!("POST /?{} HTTP/1.1\r\nHost: {}\r\n", signed.query, self.address);
        for (name, value) in &signed.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("Content-Length: 0\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        let (status, body, is_kept) = read_answer(&mut stream)?;
        self.stream = is_kept.then_some(stream);
        Ok((status, body))
    }

    fn open(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIME_LIMIT))?;
        Ok(BufReader::new(stream))
    }
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, String, bool)> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let status = read_line(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(malformed)?;
    let (mut length, mut is_kept) = (None, true);
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "connection" => is_kept = !value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; length.ok_or_else(malformed)?];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8(body).map_err(|_| malformed())?, is_kept))
}

/// Without its end; a line that the end of the connection cut short is none.
fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(whole) => Ok(whole.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
