//! Everything of this crate that the compiler cannot check: threads that share a task, and products in small formats.
//!
//! Four things need `unsafe`, and nothing outside this file does.
//!
//! - **A team of threads** runs one closure for every index of a range ([`Team::for_each`]). The threads are made once
//!   and spin for a moment between tasks, because a decoder hands out some two hundred tasks for each token and waking
//!   a thread takes longer than many of them. The closure borrows from its caller, so its lifetime is taken away before
//!   other threads see it; [`Team::for_each`] does not return before the last index is done. On top of it,
//!   [`Team::parts`] hands out parts of slices, each to exactly one call.
//! - **Products of bytes** ([`bytes_product`]) use instructions that the portable vector library has no name for. All
//!   forms are sums of whole numbers, so they give the same result to the bit.
//! - **Products of bf16** ([`halves_products`]) keep the sums of four rows in registers, which the compiler does not do by
//!   itself. All forms fuse the same multiplications in the same order, so they too agree to the bit.
//! - **Advice to the machine** about memory ([`in_large_pages`], [`fetch_ahead`]) changes when numbers arrive and never
//!   which: weights are read once a step from one end to the other, so what a processor does at the border of each small
//!   page counts.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crate::model::vector::fast;
use crate::panel::{Lanes, PANEL, add_widened};

/// How often an idle thread looks for work before it sleeps: about half a millisecond, longer than the caller's own work
/// between two tasks of a step and far shorter than a step.
const SPINS: u32 = 20_000;
/// How often the caller looks whether the others are done before it lets the system run them: on a busy machine one of
/// them may have lost its processor.
const PATIENCE: u32 = 2_000;

/// A closure of somebody's stack, called with an index.
type Work = *const (dyn Fn(usize) + Sync);

/// What the threads of a team share.
struct Shared {
    /// The number of the task in the upper half, indices that nobody has taken yet in the lower.
    open: AtomicU64,
    /// Indices of the task that are done.
    done: AtomicUsize,
    /// The task. Written while no index is open; read by threads that took an index, before they count it as done.
    work: UnsafeCell<Option<Work>>,
    sleeping: AtomicUsize,
    closing: AtomicBool,
    panicked: AtomicBool,
}

// SAFETY: `work` is written by the one thread that holds `&mut Team`, at a moment when no index is open and every taken
// index is done; others read it only between taking an index and counting it as done. The closure itself is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never used to move the closure.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes an index of the present task and runs it. False when none is open.
    fn help(&self) -> bool {
        let mut open = self.open.load(Ordering::Acquire);
        loop {
            if open & 0xffff_ffff == 0 {
                return false;
            }
            let taken = self.open.compare_exchange_weak(
                open,
                open - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                Ok(_) => break,
                Err(now) => open = now,
            }
        }
        let index = (open & 0xffff_ffff) as usize - 1;
        // SAFETY: the task cannot end before `done` counts the index just taken, so the pointer was written before
        // the index was opened and what it points to is still borrowed by `for_each`.
        let work = unsafe { &*(*self.work.get()).expect("an open index belongs to a task") };
        if catch_unwind(AssertUnwindSafe(|| work(index))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn serve(&self) {
        let mut idle = 0;
        while !self.closing.load(Ordering::Relaxed) {
            if self.help() {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < SPINS {
                std::hint::spin_loop();
                continue;
            }
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            if self.open.load(Ordering::SeqCst) & 0xffff_ffff == 0
                && !self.closing.load(Ordering::SeqCst)
            {
                thread::park();
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// Threads that work on one task together with their caller.
pub(crate) struct Team {
    shared: Arc<Shared>,
    threads: Vec<(Thread, JoinHandle<()>)>,
}

impl Team {
    /// A team of `threads`, the caller of [`Team::for_each`] among them.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            open: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            work: UnsafeCell::new(None),
            sleeping: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let start = |_| {
            let shared = shared.clone();
            let handle = thread::Builder::new()
                .name("engine".into())
                .spawn(move || shared.serve())
                .expect("a thread can be made");
            (handle.thread().clone(), handle)
        };
        let threads = (1..threads.max(1)).map(start).collect();
        Self { shared, threads }
    }

    /// Threads, the caller among them.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `work` once with every index below `count`, on all threads, and returns when all calls have.
    ///
    /// # Panics
    /// When a call did.
    pub(crate) fn for_each(&mut self, count: usize, work: impl Fn(usize) + Sync) {
        if self.threads.is_empty() || count <= 1 {
            (0..count).for_each(work);
            return;
        }
        assert!(count < 1 << 31, "an index fits half a word");
        let shared = &*self.shared;
        let borrowed: &(dyn Fn(usize) + Sync) = &work;
        // SAFETY: only the lifetime changes. The pointer is used by calls that `done` has not counted yet, and this
        // function waits until all are counted, also when one of them panics.
        let unbounded = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(
                borrowed,
            )
        };
        // SAFETY: no index is open and all earlier ones are done, so nobody reads it.
        unsafe { *shared.work.get() = Some(std::ptr::from_ref(unbounded)) };
        shared.done.store(0, Ordering::Relaxed);
        let task = (shared.open.load(Ordering::Relaxed) >> 32).wrapping_add(1) & 0xffff_ffff;
        shared
            .open
            .store(task << 32 | count as u64, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            self.threads.iter().for_each(|(thread, _)| thread.unpark());
        }
        while shared.help() {}
        let mut waited = 0;
        while shared.done.load(Ordering::Acquire) < count {
            waited += 1;
            match waited < PATIENCE {
                true => std::hint::spin_loop(),
                false => thread::yield_now(),
            }
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a thread of the team panicked");
    }

    /// Cuts each of `floats` and `bytes` in parts of its own length, the last maybe shorter or none, and gives the parts
    /// of each index to one call of `work`. There are as many as the first slice has.
    pub(crate) fn parts<const N: usize>(
        &mut self,
        floats: [(&mut [f32], usize); N],
        bytes: (&mut [i8], usize),
        work: impl Fn(usize, [&mut [f32]; N], &mut [i8]) + Sync,
    ) {
        let count = floats[0].0.len().div_ceil(floats[0].1);
        let floats = floats.map(|(slice, each)| Place::new(slice, each));
        let bytes = Place::new(bytes.0, bytes.1);
        self.for_each(count, |index| {
            // SAFETY: parts of one slice with different indices do not overlap, different slices are different
            // borrows, and `for_each` calls with every index once.
            let floats = floats.each_ref().map(|place| unsafe { place.part(index) });
            // SAFETY: as above.
            work(index, floats, unsafe { bytes.part(index) });
        });
    }

    /// Cuts `slice` at `cuts`, which rise and end with its length, and gives part `index`, between cuts `index` and
    /// `index + 1`, to one call of `work`.
    ///
    /// # Panics
    /// When the cuts do not rise or lie outside.
    pub(crate) fn cut<T: Send>(
        &mut self,
        slice: &mut [T],
        cuts: &[usize],
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(cuts.is_sorted(), "parts do not overlap");
        assert!(cuts.last().is_none_or(|last| *last <= slice.len()));
        let place = Place::new(slice, 1);
        self.for_each(cuts.len().saturating_sub(1), |index| {
            let (from, to) = (cuts[index], cuts[index + 1]);
            // SAFETY: the cuts rise and lie within the slice, and `for_each` calls with every index once.
            work(index, unsafe { place.range(from, to) });
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for (thread, handle) in self.threads.drain(..) {
            thread.unpark();
            // It ends by itself, and its panics were told already.
            let _ = handle.join();
        }
    }
}

/// A slice whose parts are handed out.
struct Place<T> {
    start: *mut T,
    length: usize,
    each: usize,
}

// SAFETY: it stands for a mutable borrow, whose parts other threads may be given when the items may.
unsafe impl<T: Send> Sync for Place<T> {}

impl<T> Place<T> {
    fn new(slice: &mut [T], each: usize) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            each,
        }
    }

    /// # Safety
    /// The slice is still borrowed, and nobody else has the part.
    #[expect(clippy::mut_from_ref, reason = "each part is handed out once")]
    unsafe fn part(&self, index: usize) -> &mut [T] {
        let from = (index * self.each).min(self.length);
        let to = (from + self.each).min(self.length);
        // SAFETY: the range lies within the slice; the caller gives every index to one call.
        unsafe { self.range(from, to) }
    }

    /// # Safety
    /// As [`Place::part`], and the range lies within the slice.
    #[expect(clippy::mut_from_ref, reason = "each part is handed out once")]
    unsafe fn range(&self, from: usize, to: usize) -> &mut [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }
}

/// Outputs and inputs of a block of byte weights.
pub(crate) const BLOCK: usize = 64;
/// Bytes of a block: sixteen groups of four inputs, each `[outputs][4]`.
pub(crate) const BLOCK_BYTES: usize = BLOCK * BLOCK;

/// Sums of products of a block of weights with the inputs of some rows: `sums[row][output] = sum of w x`.
///
/// Weights are numbers from 1 to 255 (128 more than what they stand for), `[input / 4][output][input % 4]`; inputs from
/// -127 to 127, 64 for each row. Sums are exact.
#[inline]
pub(crate) fn bytes_product(weights: &[u8], rows: &[[i8; BLOCK]], sums: &mut [[i32; BLOCK]]) {
    let weights: &[u8; BLOCK_BYTES] = weights.try_into().expect("a block");
    assert_eq!(rows.len(), sums.len());
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_vnni() {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::by_vnni(weights, rows, sums) };
        }
        if x86::has_avx2() {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::by_avx2(weights, rows, sums) };
        }
    }
    by_hand(weights, rows, sums);
}

/// The form for any processor.
fn by_hand(weights: &[u8; BLOCK_BYTES], rows: &[[i8; BLOCK]], sums: &mut [[i32; BLOCK]]) {
    for (row, sums) in rows.iter().zip(sums) {
        *sums = [0; BLOCK];
        for (weights, inputs) in weights
            .as_chunks::<{ 4 * BLOCK }>()
            .0
            .iter()
            .zip(row.as_chunks::<4>().0)
        {
            for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
                let products = weights.iter().zip(inputs);
                *sum += products
                    .map(|(w, x)| i32::from(*w) * i32::from(*x))
                    .sum::<i32>();
            }
        }
    }
}

/// Bytes from which memory is asked for in large pages.
const LARGE: usize = 1 << 17;

/// An empty vector with room for `count` numbers, in large pages where the system has them for the asking.
pub(crate) fn in_large_pages<T: Copy>(count: usize) -> Vec<T> {
    let room: Vec<T> = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = room.as_ptr().addr();
        let (from, to) = (start.next_multiple_of(PAGE), start + size_of::<T>() * count);
        if to.saturating_sub(from) >= LARGE {
            let at = room.as_ptr().cast_mut().with_addr(from).cast();
            // SAFETY: whole pages within the vector's memory. Advice changes neither what is there nor who owns it, and
            // a refusal, on a system without large pages, changes nothing.
            let _ = unsafe { libc::madvise(at, to / PAGE * PAGE - from, libc::MADV_HUGEPAGE) };
        }
    }
    room
}

/// Bytes ahead of the reader that are fetched from memory: what arrives while one line does.
const AHEAD: usize = 4096;

/// Asks for the `count` halves that come some kilobytes behind `halves`.
#[inline(always)]
pub(crate) fn fetch_ahead(halves: &[u16], count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..2 * count).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = halves.as_ptr().cast::<i8>().wrapping_add(AHEAD + line);
        // SAFETY: asking for a line of memory is harmless at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (halves, count);
}

/// Rows of an adapter's first factor that are multiplied together.
pub(crate) const RANKS: usize = 4;

/// Lane by lane, the sums of products of four rows in bf16, `[panel][4][64]`, with the vectors `first`, `first + step` and
/// so on of `x`.
///
/// # Panics
/// When `x` is too short.
#[inline]
pub(crate) fn halves_products(
    rows: &[[u16; RANKS * PANEL]],
    x: &[Lanes],
    first: usize,
    step: usize,
) -> [Lanes; RANKS] {
    #[cfg(target_arch = "x86_64")]
    if x86::has_avx512() {
        // SAFETY: the processor has the instructions.
        return unsafe { x86::halves_by_avx512(rows, x, first, step) };
    }
    let mut sums = [[0.0; PANEL]; RANKS];
    fast(
        #[inline(always)]
        || {
            for (rank, sums) in sums.iter_mut().enumerate() {
                for (panel, rows) in rows.iter().enumerate() {
                    let x = &x[first + panel * step];
                    add_widened(sums, &rows.as_chunks::<PANEL>().0[rank], |lane| x[lane]);
                }
            }
        },
    );
    sums
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, BLOCK_BYTES, RANKS};
    use crate::model::vector::{Unit, unit};
    use crate::panel::{Lanes, PANEL, VECTOR};

    pub(super) fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vnni")
            && unit::may_use(Unit::Avx512)
    }

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f") && unit::may_use(Unit::Avx512)
    }

    /// # Safety
    /// The processor has `avx512f`.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn halves_by_avx512(
        rows: &[[u16; RANKS * PANEL]],
        x: &[Lanes],
        first: usize,
        step: usize,
    ) -> [Lanes; RANKS] {
        let mut sums = [[_mm512_setzero_ps(); PANEL / VECTOR]; RANKS];
        for (panel, rows) in rows.iter().enumerate() {
            let x = &x[first + panel * step];
            super::fetch_ahead(rows, RANKS * PANEL);
            for v in 0..PANEL / VECTOR {
                // SAFETY: sixteen numbers from there on lie in the panel.
                let x = unsafe { _mm512_loadu_ps(x.as_ptr().add(VECTOR * v)) };
                for (rank, sums) in sums.iter_mut().enumerate() {
                    let at = rank * PANEL + VECTOR * v;
                    // SAFETY: sixteen halves from there on lie in the four rows.
                    let row =
                        unsafe { _mm256_loadu_si256(rows.as_ptr().cast::<u16>().add(at).cast()) };
                    let row = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(row));
                    sums[v] = _mm512_fmadd_ps(_mm512_castsi512_ps(row), x, sums[v]);
                }
            }
        }
        sums.map(|sums| {
            let mut lanes = [0.0; PANEL];
            for (lanes, sum) in lanes.as_chunks_mut::<VECTOR>().0.iter_mut().zip(sums) {
                // SAFETY: the vector has as many numbers.
                unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sum) };
            }
            lanes
        })
    }

    pub(super) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && unit::may_use(Unit::Avx2)
    }

    /// # Safety
    /// The processor has `avx512f` and `avx512vnni`.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn by_vnni(
        weights: &[u8; BLOCK_BYTES],
        rows: &[[i8; BLOCK]],
        sums: &mut [[i32; BLOCK]],
    ) {
        let (mut rows, mut sums) = (rows, sums);
        macro_rules! tiles {
            ($($n:literal)*) => {$(
                while let Some((tile, rest)) = rows.split_first_chunk::<$n>() {
                    let (out, rest_out) = std::mem::take(&mut sums)
                        .split_first_chunk_mut::<$n>()
                        .expect("as many sums as rows");
                    // SAFETY: the features are those of this function.
                    unsafe { tile_vnni(weights, tile, out) };
                    (rows, sums) = (rest, rest_out);
                }
            )*};
        }
        tiles!(6 5 4 3 2 1);
    }

    /// # Safety
    /// As [`by_vnni`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn tile_vnni<const ROWS: usize>(
        weights: &[u8; BLOCK_BYTES],
        rows: &[[i8; BLOCK]; ROWS],
        out: &mut [[i32; BLOCK]; ROWS],
    ) {
        let mut sums = [[_mm512_setzero_si512(); 4]; ROWS];
        for group in 0..BLOCK / 4 {
            let at = group * 4 * BLOCK;
            // SAFETY: four vectors of 64 bytes lie in each group of the block.
            let w: [__m512i; 4] = std::array::from_fn(|v| unsafe {
                _mm512_loadu_si512(weights.as_ptr().add(at + 64 * v).cast())
            });
            for row in 0..ROWS {
                let four = &rows[row][4 * group..4 * group + 4];
                let four = [four[0], four[1], four[2], four[3]].map(i8::cast_unsigned);
                let x = _mm512_set1_epi32(i32::from_le_bytes(four));
                for v in 0..4 {
                    sums[row][v] = _mm512_dpbusd_epi32(sums[row][v], w[v], x);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: sixteen numbers from 16 v on lie in the row.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(16 * v).cast(), sum) };
            }
        }
    }

    /// # Safety
    /// The processor has `avx2`.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn by_avx2(
        weights: &[u8; BLOCK_BYTES],
        rows: &[[i8; BLOCK]],
        sums: &mut [[i32; BLOCK]],
    ) {
        for (row, out) in rows.iter().zip(sums) {
            // Pairs of inputs of sixteen outputs at a time: a vector holds four outputs with four products each.
            for part in 0..BLOCK / 16 {
                let mut sums = [_mm256_setzero_si256(); 4];
                for group in 0..BLOCK / 4 {
                    let four = &row[4 * group..4 * group + 4];
                    let wide: [i64; 4] = std::array::from_fn(|i| i64::from(four[i]) & 0xffff);
                    let wide = wide[0] | wide[1] << 16 | wide[2] << 32 | wide[3] << 48;
                    let x = _mm256_set1_epi64x(wide);
                    for (v, sum) in sums.iter_mut().enumerate() {
                        let at = group * 4 * BLOCK + 64 * part + 16 * v;
                        // SAFETY: sixteen bytes from there on lie in the block.
                        let w =
                            unsafe { _mm_loadu_si128(weights.as_ptr().add(at).cast::<__m128i>()) };
                        let w = _mm256_cvtepu8_epi16(w);
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(w, x));
                    }
                }
                for (v, sum) in sums.into_iter().enumerate() {
                    let mut pairs = [0i32; 8];
                    // SAFETY: eight numbers have room.
                    unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), sum) };
                    for output in 0..4 {
                        out[16 * part + 4 * v + output] = pairs[2 * output] + pairs[2 * output + 1];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
