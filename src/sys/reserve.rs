//! Memory that is held back for when there is no more to be had, as under `RLIMIT_AS`
//! (`getrlimit(2)`): an allocation that fails would end the server, and so it gets through the turn.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::libc;

/// Bytes of a piece. Pages that nobody touches are only counted.
const PIECE_BYTES: usize = 1 << 20;

/// The pieces: the longest request takes about half of them for a moment.
static PIECES: [AtomicPtr<libc::c_void>; 32] = [const { AtomicPtr::new(ptr::null_mut()) }; 32];

/// So many of them are memory that could be used. A kernel that gives out no more than there is
/// (`vm.overcommit_memory`) counts only those; the others are address space.
const MEMORY_PIECES: usize = 2;

static TOUCHED: AtomicBool = AtomicBool::new(false);

/// The allocator of the system, with the reserve behind it.
#[derive(Debug)]
pub struct Allocator;

/// Holds back as much as there is, and it should. False if that is not half of it.
pub fn hold() -> bool {
    TOUCHED.store(false, Ordering::Relaxed);
    let memory = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    for (count, piece) in PIECES.iter().enumerate() {
        if piece.load(Ordering::Relaxed).is_null() {
            let access = if count < MEMORY_PIECES {
                memory
            } else {
                libc::PROT_NONE
            };
            // SAFETY: a new mapping, wherever the kernel has room for it.
            let new = unsafe { libc::mmap(ptr::null_mut(), PIECE_BYTES, access, kind, -1, 0) };
            if new == libc::MAP_FAILED {
                return count > PIECES.len() / 2;
            }
            piece.store(new, Ordering::Relaxed);
        }
    }
    true
}

/// Was some of it needed since then?
#[must_use]
pub fn is_touched() -> bool {
    TOUCHED.load(Ordering::Relaxed)
}

/// Gives up a piece. False if none is left.
fn give_up() -> bool {
    let held = |piece: &AtomicPtr<_>| piece.swap(ptr::null_mut(), Ordering::Relaxed);
    // From the end, where those are that `hold` reaches last.
    let Some(piece) = PIECES.iter().rev().map(held).find(|piece| !piece.is_null()) else {
        return false;
    };
    TOUCHED.store(true, Ordering::Relaxed);
    // SAFETY: the mapping is that of a piece, and nobody has used it.
    unsafe { libc::munmap(piece, PIECE_BYTES) == 0 }
}

fn try_hard(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    loop {
        let block = allocate();
        if !block.is_null() || !give_up() {
            return block;
        }
    }
}

// SAFETY: each call is the system's, made again if it gave nothing.
unsafe impl GlobalAlloc for Allocator {
    // SAFETY: what the caller promises is what the system asks for; so it is with those below.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        try_hard(|| unsafe { System.alloc(layout) })
    }

    // SAFETY: as above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        try_hard(|| unsafe { System.alloc_zeroed(layout) })
    }

    // SAFETY: as above.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises; a call that fails leaves the block as it is.
        try_hard(|| unsafe { System.realloc(block, layout, size) })
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}
