//! The connection: one request out, one answer in, in order.
//!
//! Reading is bounded in length and in time. Once a second while an answer is awaited the caller hears of it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::failure::{Failure, Refusal};

/// What a server may take to answer a question that makes it wait for nothing.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a waiting caller is told that it still waits.
const TICK: Duration = Duration::from_secs(1);
/// Longest answer. The logs of a service with a generous buffer are some 10 MB.
const LONGEST_ANSWER: usize = 64 << 20;

/// What happens once a second while an answer is awaited.
pub(super) type Tick<'a> = &'a mut dyn FnMut(Duration);

/// A connection to the server.
pub(super) struct Client {
    stream: UnixStream,
    /// Bytes behind the last answer.
    unread: Vec<u8>,
    last_id: u64,
}

impl Client {
    pub(super) fn connect(socket: &Path) -> Result<Self, Failure> {
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Self {
                stream,
                unread: Vec::new(),
                last_id: 0,
            }),
            Err(error) if is_nobody(&error) => Err(Failure::NotListening(socket.to_owned(), error)),
            Err(error) => Err(Failure::Unreachable(socket.to_owned(), error)),
        }
    }

    /// Asks something that is answered at once.
    pub(super) fn ask(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.call(method, params, Some(ANSWER_WITHIN), &mut |_| ())
    }

    /// Asks something that is answered within `limit`, if that is known.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: Value,
        limit: Option<Duration>,
        tick: Tick<'_>,
    ) -> Result<Value, Failure> {
        self.send(method, params)?;
        let line = self.line(limit, tick)?;
        self.unpack(&line)
    }

    /// Waits until the server closes the connection, as it does when it ends.
    pub(super) fn wait_for_end(
        &mut self,
        limit: Option<Duration>,
        tick: Tick<'_>,
    ) -> Result<(), Failure> {
        loop {
            match self.line(limit, &mut *tick) {
                Ok(_) => {}
                Err(Failure::Closed | Failure::Connection(_)) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next thing the server tells by itself; none when it has ended.
    pub(super) fn note(&mut self) -> Result<Option<Value>, Failure> {
        match self.line(None, &mut |_| ()) {
            Ok(line) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|_| Failure::Nonsense),
            Err(Failure::Closed) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Has more of that come already?
    pub(super) fn has_more(&self) -> bool {
        self.unread.contains(&b'\n')
    }

    fn send(&mut self, method: &str, params: Value) -> Result<(), Failure> {
        self.last_id += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        let line = format!("{request}\n");
        self.stream
            .set_write_timeout(Some(ANSWER_WITHIN))
            .map_err(Failure::Connection)?;
        match self.stream.write_all(line.as_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if is_timeout(&error) => Err(Failure::Unanswered(ANSWER_WITHIN)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
            Err(error) => Err(Failure::Connection(error)),
        }
    }

    fn line(&mut self, limit: Option<Duration>, tick: Tick<'_>) -> Result<Vec<u8>, Failure> {
        let asked = Instant::now();
        let mut searched = 0;
        let mut ticks = 0;
        loop {
            if let Some(end) = self.unread[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let rest = self.unread.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            searched = self.unread.len();
            if searched > LONGEST_ANSWER {
                return Err(Failure::TooLong);
            }
            let waited = asked.elapsed();
            let patience = match limit {
                Some(limit) if waited >= limit => return Err(Failure::Unanswered(limit)),
                Some(limit) => TICK.min(limit - waited),
                None => TICK,
            };
            self.fill(patience)?;
            if asked.elapsed().as_secs() > ticks {
                ticks = asked.elapsed().as_secs();
                tick(asked.elapsed());
            }
        }
    }

    /// Reads what comes within `patience`, which may be nothing.
    fn fill(&mut self, patience: Duration) -> Result<(), Failure> {
        let mut chunk = [0; 16 << 10];
        self.stream
            .set_read_timeout(Some(patience))
            .map_err(Failure::Connection)?;
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Failure::Closed),
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Failure::Closed),
            Err(error) => Err(Failure::Connection(error)),
        }
    }

    fn unpack(&self, line: &[u8]) -> Result<Value, Failure> {
        let mut answer: Value = serde_json::from_slice(line).map_err(|_| Failure::Nonsense)?;
        if let Some(error) = answer.get_mut("error") {
            return Err(Failure::Refused(Refusal {
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"]
                    .as_str()
                    .unwrap_or("the server gave no reason")
                    .to_owned(),
                data: error["data"].take(),
            }));
        }
        if answer["id"] != self.last_id {
            return Err(Failure::Nonsense);
        }
        answer
            .get_mut("result")
            .map(Value::take)
            .ok_or(Failure::Nonsense)
    }
}

fn is_nobody(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind())
}

fn is_timeout(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (
            Client {
                stream: ours,
                unread: Vec::new(),
                last_id: 0,
            },
            theirs,
        )
    }

    fn call(client: &mut Client) -> Result<Value, Failure> {
        client.call(
            "system.ping",
            Value::Null,
            Some(Duration::from_millis(1)),
            &mut |_| (),
        )
    }

    #[test]
    fn a_silent_server_is_given_up_on() {
        let (mut client, _theirs) = pair();
        let failure = call(&mut client).expect_err("no answer comes");
        assert_eq!(failure.to_string(), "the server did not answer within 1 ms");
    }

    #[test]
    fn a_server_that_hangs_up_is_told_apart() {
        let (mut client, theirs) = pair();
        theirs
            .shutdown(std::net::Shutdown::Write)
            .expect("half a connection");
        let failure = call(&mut client).expect_err("no answer comes");
        assert_eq!(
            failure.to_string(),
            "the server closed the connection before it answered"
        );
    }

    #[test]
    fn two_answers_in_one_piece_are_two_answers() {
        let (mut client, mut theirs) = pair();
        theirs
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n")
            .expect("room in the socket");
        assert_eq!(call(&mut client).ok(), Some(json!(1)));
        assert_eq!(call(&mut client).ok(), Some(json!(2)));
    }

    #[test]
    fn what_is_no_answer_is_nonsense() {
        let (mut client, mut theirs) = pair();
        theirs
            .write_all(b"HTTP/1.1 400 Bad Request\r\n")
            .expect("room in the socket");
        assert!(matches!(call(&mut client), Err(Failure::Nonsense)));
    }
}
