//! What the loop is woken for, by the number that `epoll(7)` gives back.

use mio::Token;

/// Numbers before those of tables.
const FIRST: usize = 8;

/// Tables, whose places take turns.
const TABLES: usize = 6;

/// Something the loop is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Signals have come.
    Signals,
    /// A deadline has.
    Alarm,
    /// Somebody connects.
    Listener,
    /// The output of a container can be written to. What waits for it is written at the end of
    /// every turn.
    Output(usize),
    /// Programs have something for the system's log.
    Syslog,
    /// Who writes files can take more.
    Writer,
    /// A pipe or a socket of a service.
    Pipe(usize),
    /// A client.
    Client(usize),
    /// A connection that probes a service.
    Probe(usize),
    /// A socket of a service that is started by a connection.
    Socket(usize),
    /// A socket where a proxy listens.
    Entrance(usize),
    /// A side of a connection through a proxy.
    Link(usize),
}

impl Place {
    /// Its number.
    pub(super) const fn token(self) -> Token {
        Token(match self {
            Self::Signals => 0,
            Self::Alarm => 1,
            Self::Listener => 2,
            Self::Output(number) => 3 + (number & 1),
            Self::Syslog => 5,
            Self::Writer => 6,
            Self::Pipe(place) => FIRST + place * TABLES,
            Self::Client(place) => FIRST + place * TABLES + 1,
            Self::Probe(place) => FIRST + place * TABLES + 2,
            Self::Socket(place) => FIRST + place * TABLES + 3,
            Self::Entrance(place) => FIRST + place * TABLES + 4,
            Self::Link(place) => FIRST + place * TABLES + 5,
        })
    }

    /// What has that number.
    pub(super) const fn of(Token(number): Token) -> Self {
        match number {
            0 => Self::Signals,
            1 => Self::Alarm,
            2 => Self::Listener,
            3 => Self::Output(0),
            4 => Self::Output(1),
            5 => Self::Syslog,
            6 | 7 => Self::Writer,
            number => {
                let place = (number - FIRST) / TABLES;
                match (number - FIRST) % TABLES {
                    0 => Self::Pipe(place),
                    1 => Self::Client(place),
                    2 => Self::Probe(place),
                    3 => Self::Socket(place),
                    4 => Self::Entrance(place),
                    _ => Self::Link(place),
                }
            }
        }
    }
}
