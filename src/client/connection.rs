//! The connection: one request out, one answer in, in order.
//!
//! Reading is bounded in length and in time. Once a second while an answer is awaited the caller hears of it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::{Error, Refusal};

/// What a server may take to answer a question that makes it wait for nothing.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a waiting caller is told that it still waits.
const TICK: Duration = Duration::from_secs(1);
/// Longest answer. The logs of a service with a generous buffer are some 10 MB.
const LONGEST_ANSWER: usize = 64 << 20;

/// What happens once a second while an answer is awaited.
pub type Tick<'a> = &'a mut dyn FnMut(Duration);

/// A connection to the server, for methods and parameters of any kind. [`super::Client`] knows those
/// there are.
pub struct Connection {
    stream: UnixStream,
    /// Bytes behind the last answer.
    unread: Vec<u8>,
    last_id: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there, or it is not for us.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Self {
                stream,
                unread: Vec::new(),
                last_id: 0,
            }),
            Err(error) if is_nobody(&error) => Err(Error::NotListening(socket.to_owned(), error)),
            Err(error) => Err(Error::Unreachable(socket.to_owned(), error)),
        }
    }

    /// Asks something that is answered at once.
    ///
    /// # Errors
    /// If the server refuses, or no answer comes within [`ANSWER_WITHIN`].
    pub fn ask(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        self.call(method, params, Some(ANSWER_WITHIN), &mut |_| ())
    }

    /// Asks something that is answered within `limit`, if that is known.
    ///
    /// # Errors
    /// If the server refuses, or no answer comes in time.
    pub fn call(
        &mut self,
        method: &str,
        params: Value,
        limit: Option<Duration>,
        tick: Tick<'_>,
    ) -> Result<Value, Error> {
        self.send(method, params)?;
        loop {
            let line = self.line(limit, &mut *tick)?;
            if let Some(answer) = self.unpack(&line) {
                return answer;
            }
        }
    }

    /// Waits until the server closes the connection, as it does when it ends.
    ///
    /// # Errors
    /// If that takes longer than `limit`.
    pub fn wait_for_end(&mut self, limit: Option<Duration>, tick: Tick<'_>) -> Result<(), Error> {
        loop {
            match self.line(limit, &mut *tick) {
                Ok(_) => {}
                Err(Error::Closed | Error::Connection(_)) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next thing the server tells by itself; none when it has ended.
    ///
    /// # Errors
    /// If nothing comes within `limit`, or the connection broke.
    pub fn note(&mut self, limit: Option<Duration>) -> Result<Option<Value>, Error> {
        match self.line(limit, &mut |_| ()) {
            Ok(line) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|_| Error::Nonsense),
            Err(Error::Closed) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Has more of that come already?
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.unread.contains(&b'\n')
    }

    fn send(&mut self, method: &str, params: Value) -> Result<(), Error> {
        self.last_id += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        let line = format!("{request}\n");
        self.stream
            .set_write_timeout(Some(ANSWER_WITHIN))
            .map_err(Error::Connection)?;
        match self.stream.write_all(line.as_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if is_timeout(&error) => Err(Error::Timeout(ANSWER_WITHIN)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Error::Closed),
            Err(error) => Err(Error::Connection(error)),
        }
    }

    fn line(&mut self, limit: Option<Duration>, tick: Tick<'_>) -> Result<Vec<u8>, Error> {
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
                return Err(Error::TooLong);
            }
            let waited = asked.elapsed();
            let patience = match limit {
                Some(limit) if waited >= limit => return Err(Error::Timeout(limit)),
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
    fn fill(&mut self, patience: Duration) -> Result<(), Error> {
        let mut chunk = [0; 16 << 10];
        self.stream
            .set_read_timeout(Some(patience))
            .map_err(Error::Connection)?;
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Error::Closed),
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Error::Closed),
            Err(error) => Err(Error::Connection(error)),
        }
    }

    /// The answer; none if it is one to an earlier request, which was given up on.
    fn unpack(&self, line: &[u8]) -> Option<Result<Value, Error>> {
        let Ok(mut answer) = serde_json::from_slice::<Value>(line) else {
            return Some(Err(Error::Nonsense));
        };
        let id = answer["id"].as_u64();
        if id.is_some_and(|id| (1..self.last_id).contains(&id)) {
            return None;
        }
        if let Some(error) = answer.get_mut("error") {
            return Some(Err(Error::Refused(Refusal {
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"]
                    .as_str()
                    .filter(|message| !message.is_empty())
                    .unwrap_or("the server gave no reason")
                    .to_owned(),
                data: error.get_mut("data").map(Value::take).unwrap_or_default(),
            })));
        }
        let result = answer.get_mut("result").map(Value::take);
        let result = result.filter(|_| id == Some(self.last_id));
        Some(result.ok_or(Error::Nonsense))
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

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (
            Connection {
                stream: ours,
                unread: Vec::new(),
                last_id: 0,
            },
            theirs,
        )
    }

    fn call(connection: &mut Connection) -> Result<Value, Error> {
        connection.call(
            "system.ping",
            Value::Null,
            Some(Duration::from_millis(1)),
            &mut |_| (),
        )
    }

    #[test]
    fn a_silent_server_is_given_up_on() {
        let (mut connection, _theirs) = pair();
        let failure = call(&mut connection).expect_err("no answer comes");
        assert_eq!(failure.to_string(), "the server did not answer within 1 ms");
    }

    #[test]
    fn a_server_that_hangs_up_is_told_apart() {
        let (mut connection, theirs) = pair();
        theirs
            .shutdown(std::net::Shutdown::Write)
            .expect("half a connection");
        let failure = call(&mut connection).expect_err("no answer comes");
        assert_eq!(
            failure.to_string(),
            "the server closed the connection before it answered"
        );
    }

    #[test]
    fn two_answers_in_one_piece_are_two_answers() {
        let (mut connection, mut theirs) = pair();
        theirs
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n")
            .expect("room in the socket");
        assert_eq!(call(&mut connection).ok(), Some(json!(1)));
        assert_eq!(call(&mut connection).ok(), Some(json!(2)));
    }

    #[test]
    fn what_is_no_answer_is_nonsense() {
        let (mut connection, mut theirs) = pair();
        theirs
            .write_all(b"HTTP/1.1 400 Bad Request\r\n")
            .expect("room in the socket");
        assert!(matches!(call(&mut connection), Err(Error::Nonsense)));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_another() {
        let (mut connection, mut theirs) = pair();
        assert!(matches!(call(&mut connection), Err(Error::Timeout(_))));
        theirs
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n")
            .expect("room in the socket");
        assert_eq!(call(&mut connection).ok(), Some(json!(2)));
    }
}
