//! Mutated inputs for what reads texts and bytes of others: made, run, watched, and made small.
//!
//! All that happens follows from a seed. Without a look at the branches taken, what an input is
//! worth is read from what came of it: each target marks the kinds of results it saw, and an input
//! that brought a new mark is kept to be mutated further.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::hash::{Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::libc;

pub(crate) use super::rng::Rng;

/// What is fuzzed.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Words that mean something to it.
    pub(crate) words: fn() -> Vec<String>,
    /// Inputs that make sense, to begin with, beside those in the tree.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Makes an input by the grammar.
    pub(crate) make: fn(&mut Rng) -> Vec<u8>,
    /// Takes an input and panics if a property does not hold.
    pub(crate) run: fn(&[u8], &mut Marks),
    /// Bytes of memory it may take, and as many more for each byte of input.
    pub(crate) memory: (usize, usize),
}

/// The kinds of results that were seen.
#[derive(Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn see(&mut self, what: impl Hash) {
        let mut hasher = Fnv::default();
        what.hash(&mut hasher);
        self.0.push(hasher.finish());
    }

    /// A sentence, without what was quoted in it and without numbers.
    pub(crate) fn told(&mut self, sentence: &str) {
        let mut shape = String::new();
        for (place, part) in sentence.split(['\'', '"', '`']).enumerate() {
            if place % 2 == 0 {
                shape.extend(part.chars().filter(|letter| letter.is_ascii_alphabetic()));
            }
        }
        shape.truncate(24);
        self.see(shape);
    }
}

/// FNV-1a, which is the same everywhere.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(bytes);
    hasher.finish()
}

/// Where the inputs of a target are kept.
pub(crate) fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(target)
}

/// The inputs of a target that are in the tree, in the order of their names.
pub(crate) fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("an input");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

// Memory: all that a thread holds is counted.

/// The system's allocator, with a count.
pub(crate) struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// No input is worth more; the allocation fails, and the process ends by that.
const MOST_HELD: isize = 3 << 30;

fn count(bytes: isize) -> bool {
    HELD.with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
        now + bytes <= MOST_HELD
    })
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: all is done by the system's allocator; the count touches no memory of anybody.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(signed(layout.size())) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !count(signed(size) - signed(layout.size())) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

// Time: of the processor, not of the wall, as others are at work too.

pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock is there on each Linux, and the structure is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time that an input may take: a lot, so that only what does not end in time proportional
/// to its length is found.
fn may_take(bytes: usize) -> Duration {
    Duration::from_millis(500) + Duration::from_micros(5) * u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Processor time after which an input is taken for one that never ends.
const HANGS: Duration = Duration::from_secs(60);

// What can't be caught: the input at hand is written by a handler of signals.

thread_local! {
    /// The input at hand and the folder it would be kept in.
    static AT_HAND: Cell<(*const u8, usize, *const libc::c_char)> =
        const { Cell::new((std::ptr::null(), 0, std::ptr::null())) };
    /// What the last panic said, and where; none outside of a run.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Writes the input at hand to `found-HASH`, and ends. It only makes system calls.
extern "C" fn on_abort(_: libc::c_int) {
    let (at, length, folder) = AT_HAND.with(Cell::get);
    if !folder.is_null() {
        // SAFETY: both are kept for as long as they are at hand, and by the thread that is here.
        unsafe {
            let input = std::slice::from_raw_parts(at, length);
            let mut path = [0_u8; 4096];
            let folder = std::slice::from_raw_parts(folder.cast::<u8>(), libc::strlen(folder));
            let mut end = folder.len().min(4000);
            path[..end].copy_from_slice(&folder[..end]);
            for byte in b"/found-" {
                path[end] = *byte;
                end += 1;
            }
            let hash = hash_of(input);
            for place in (0..16).rev() {
                path[end] = b"0123456789abcdef"[(hash >> (place * 4) & 15) as usize];
                end += 1;
            }
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
            let file = libc::open(path.as_ptr().cast(), flags, 0o644);
            libc::write(file, input.as_ptr().cast(), input.len());
            path[end] = b'\n';
            libc::write(2, path.as_ptr().cast(), end + 1);
        }
    }
    // SAFETY: both take plain numbers.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::raise(libc::SIGABRT);
    }
}

/// Has panics told quietly while an input is run, and what can't be caught written down.
fn guard() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_run = PANIC.with_borrow(Option::is_some);
            if is_run {
                PANIC.with_borrow_mut(|told| *told = Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
        // SAFETY: an all-zero sigaction is a valid one; the handler makes system calls only, on the
        // stack that the standard library made for the case that the usual one is full.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_abort as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(libc::SIGABRT, &raw const action, std::ptr::null_mut());
        }
    });
}

/// Ends the process when one input takes longer than [`HANGS`] of this thread's processor time.
pub(crate) struct Watchdog {
    /// Where an input is kept that ends the process.
    folder: Option<CString>,
    _alive: std::sync::mpsc::Sender<()>,
    runs: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Watchdog {
    /// Of this thread; it keeps what ends the process, if it `keeps` anything.
    pub(crate) fn over(target: &Target, keeps: bool) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        let runs = std::sync::Arc::new(AtomicU64::new(0));
        let seen = runs.clone();
        // SAFETY: a thread may ask who it is, and for its own clock.
        let (thread, clock) = unsafe {
            let mut clock = 0;
            libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock);
            (libc::pthread_self(), clock)
        };
        let time = move || {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the structure is ours; a clock that is gone is an error and no harm.
            unsafe { libc::clock_gettime(clock, &raw mut time) };
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
        };
        std::thread::spawn(move || {
            let mut last = (0, time());
            let tick = Duration::from_secs(1);
            while ended.recv_timeout(tick) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, time());
                } else if time() > last.1 + HANGS {
                    eprintln!("an input takes longer than {HANGS:?}");
                    // SAFETY: the thread lives, as it has not let go of the channel.
                    unsafe { libc::pthread_kill(thread, libc::SIGABRT) };
                    return;
                }
            }
        });
        let folder = CString::new(folder(target.name).into_os_string().into_encoded_bytes());
        Self {
            folder: folder.ok().filter(|_| keeps),
            _alive: alive,
            runs,
        }
    }

    fn next(&self) {
        self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) marks: Vec<u64>,
    /// Processor time it took.
    pub(crate) took: Duration,
    /// Memory it held at most.
    pub(crate) most: usize,
}

/// Runs a target with an input, and says if something is broken.
pub(crate) fn execute(target: &Target, input: &[u8], watchdog: &Watchdog) -> Result<Ran, String> {
    guard();
    watchdog.next();
    let folder = watchdog.folder.as_ref();
    let folder = folder.map_or(std::ptr::null(), |folder| folder.as_ptr());
    AT_HAND.set((input.as_ptr(), input.len(), folder));
    PANIC.with_borrow_mut(|told| *told = Some(String::new()));
    let held = HELD.get().0;
    HELD.set((held, held));
    let begun = cpu_time();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut marks = Marks::default();
        (target.run)(input, &mut marks);
        marks.0
    }));
    let took = cpu_time().saturating_sub(begun);
    let most = usize::try_from(HELD.get().1 - held).unwrap_or(0);
    let told = PANIC.take().unwrap_or_default();
    AT_HAND.set((std::ptr::null(), 0, std::ptr::null()));
    let marks = result.map_err(|_| told)?;
    let (base, each) = target.memory;
    if took > may_take(input.len()) {
        return Err(format!(
            "at time: {} bytes took {took:?} of the processor",
            input.len()
        ));
    }
    if most > base + each * input.len() {
        return Err(format!(
            "at memory: {} bytes took {most} bytes of memory",
            input.len()
        ));
    }
    Ok(Ran { marks, took, most })
}

/// Where it broke: two inputs that break it there found the same.
pub(crate) fn place(broken: &str) -> &str {
    let line = broken.lines().next().unwrap_or_default();
    let place = line.split("at ").nth(1).unwrap_or(line);
    // Where it is too slow or too large can't be told.
    place.split(": ").next().unwrap_or(place)
}

/// Time to make an input small.
const SHRINKS: Duration = Duration::from_secs(20);

/// The smallest input that is found to break the same, by leaving out pieces of it.
pub(crate) fn shrunk(input: &[u8], still: &mut dyn FnMut(&[u8]) -> bool, tries: usize) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut left = tries;
    let begun = Instant::now();
    let mut size = best.len() / 2;
    while size > 0 {
        let mut start = 0;
        while start < best.len() && left > 0 && begun.elapsed() < SHRINKS {
            let mut shorter = best[..start].to_vec();
            shorter.extend_from_slice(&best[(start + size).min(best.len())..]);
            left -= 1;
            if still(&shorter) {
                best = shorter;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    best
}

/// Makes inputs.
pub(crate) struct Mill<'a> {
    target: &'a Target,
    words: Vec<String>,
    rng: Rng,
    corpus: Vec<Vec<u8>>,
    seen: BTreeSet<u64>,
    most: usize,
}

/// Inputs that are kept in memory.
const MOST_KEPT: usize = 4000;

/// Bytes with a meaning somewhere.
const BYTES: &[u8] = b"\0\t\n\r \"'()*,-./01289:;<=>@AZ[\\]_`az{|}~\x7f\x80\xc3\xe2\xff";

impl<'a> Mill<'a> {
    pub(crate) fn new(target: &'a Target, seed: u64, most: usize) -> Self {
        let mut corpus = (target.seeds)();
        corpus.extend(kept(target.name).into_iter().map(|(_, bytes)| bytes));
        corpus.push(Vec::new());
        Self {
            target,
            words: (target.words)(),
            rng: Rng::new(seed),
            corpus,
            seen: BTreeSet::new(),
            most,
        }
    }

    /// The inputs to begin with, to be run first.
    pub(crate) fn seeds(&self) -> Vec<Vec<u8>> {
        self.corpus.clone()
    }

    /// Inputs have at most so many bytes from now on.
    pub(crate) fn reach(&mut self, most: usize) {
        self.most = most;
    }

    /// Kinds of results that were seen.
    pub(crate) fn kinds(&self) -> usize {
        self.seen.len()
    }

    /// Takes note of what an input led to. Says whether that was new.
    pub(crate) fn learn(&mut self, input: &[u8], marks: Vec<u64>) -> bool {
        let before = self.seen.len();
        self.seen.extend(marks);
        let is_new = self.seen.len() > before;
        if is_new && input.len() < 1 << 16 {
            if self.corpus.len() < MOST_KEPT {
                self.corpus.push(input.to_vec());
            } else {
                let place = self.below(MOST_KEPT);
                self.corpus[place] = input.to_vec();
            }
        }
        is_new
    }

    /// The next input.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        let mut input = if self.rng.chance(40) {
            (self.target.make)(&mut self.rng)
        } else {
            self.some_kept()
        };
        let times = *self.rng.pick(&[0, 1, 1, 1, 2, 2, 3, 5, 8]);
        for _ in 0..times {
            self.mutate(&mut input);
        }
        input.truncate(self.most);
        input
    }

    /// One that was kept; rather one of the last.
    fn some_kept(&mut self) -> Vec<u8> {
        let count = self.corpus.len();
        let among = if self.rng.chance(50) {
            count.min(64)
        } else {
            count
        };
        let place = count - 1 - self.below(among);
        self.corpus[place].clone()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound.max(1) as u64)).expect("small")
    }

    /// A piece of something so long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.rng.chance(60) { 8 } else { length };
        let end = (start + self.below(most + 1)).min(length);
        start..end
    }

    /// A piece that is a line or a word, or any.
    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let ends: &[u8] = match self.below(3) {
            0 => b"\n",
            1 => b" ,=:\n\"[]{}",
            _ => return self.range(input.len()),
        };
        let at = self.below(input.len());
        let is_end = |byte: &u8| ends.contains(byte);
        let before = input[..at]
            .iter()
            .rposition(is_end)
            .map_or(0, |end| end + 1);
        let after = input[at..].iter().position(is_end);
        before..after.map_or(input.len(), |end| (at + end + 1).min(input.len()))
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        match self.below(16) {
            0 if length > 0 => {
                let at = self.below(length);
                input[at] ^= 1 << self.below(8);
            }
            1 if length > 0 => {
                let at = self.below(length);
                input[at] = *self.rng.pick(BYTES);
            }
            2 => input.truncate(self.below(length + 1)),
            3 => drop(input.drain(..self.below(length + 1))),
            4 | 5 => {
                let piece = self.piece(input);
                input.drain(piece);
            }
            6 => {
                let piece = self.piece(input);
                let copy = input[piece].to_vec();
                let at = self.below(length + 1);
                input.splice(at..at, copy);
            }
            7 => {
                let piece = self.piece(input);
                let copy = input[piece.clone()].to_vec();
                let times = *self.rng.pick(&[2, 3, 10, 70, 300, 3000, 100_000]);
                let times = times.min(self.most / copy.len().max(1));
                input.splice(piece, copy.repeat(times));
            }
            8 | 9 => {
                let at = self.below(length + 1);
                let word = self.word();
                input.splice(at..at, word);
            }
            10 | 11 => {
                let piece = self.piece(input);
                let word = self.word();
                input.splice(piece, word);
            }
            12 => {
                let other = self.some_kept();
                let (own, its) = (self.below(length + 1), self.below(other.len() + 1));
                input.truncate(own);
                input.extend_from_slice(&other[its..]);
            }
            13 => {
                let other = self.some_kept();
                let piece = self.piece(&other);
                let at = self.below(length + 1);
                input.splice(at..at, other[piece].iter().copied());
            }
            14 => self.number(input),
            _ => {
                let at = self.below(length + 1);
                let count = 1 + self.below(4);
                let bytes: Vec<u8> = (0..count)
                    .map(|_| self.rng.next().to_le_bytes()[0])
                    .collect();
                input.splice(at..at, bytes);
            }
        }
    }

    /// Puts a number in the place of one.
    fn number(&mut self, input: &mut Vec<u8>) {
        let digits: Vec<usize> = (0..input.len())
            .filter(|at| input[*at].is_ascii_digit())
            .collect();
        if digits.is_empty() {
            return;
        }
        let start = digits[self.below(digits.len())];
        let end = start
            + input[start..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
        let number = *self.rng.pick(NUMBERS);
        input.splice(start..end, number.bytes());
    }

    fn word(&mut self) -> Vec<u8> {
        if self.words.is_empty() || self.rng.chance(15) {
            return self.rng.pick(NUMBERS).as_bytes().to_vec();
        }
        self.rng.pick(&self.words).clone().into_bytes()
    }
}

/// Numbers at whose edges things break.
pub(crate) const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "+1",
    "00",
    "007",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
    "1e999",
    "1.5",
    "0x7f",
    "1_000",
];
