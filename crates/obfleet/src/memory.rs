//! Memory that is not used goes back to the system.

/// Blocks from this size on are the system's own: taken from it one by one, and given back when they are freed.
#[cfg(target_env = "gnu")]
const OWN_BLOCK_BYTES: libc::c_int = 256 * 1024;
/// Heaps that threads share. Each keeps what its threads once needed.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Settings of the C library's allocator for a process that is small most of the time.
///
/// Left alone, glibc takes the first large block it gets back as a sign that more are to come: from then on it keeps
/// blocks of that size, in a heap for every thread. A password costs 19 MiB for 30 ms, on whichever thread, and the
/// server would have three such blocks lying about for ever. Other C libraries give large blocks back anyway.
///
/// Call it before there are threads.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in [(libc::M_MMAP_THRESHOLD, OWN_BLOCK_BYTES), (libc::M_ARENA_MAX, HEAPS)] {
        #[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
        // SAFETY: takes two integers and changes nothing but settings, under the allocator's own lock.
        let set = unsafe { libc::mallopt(setting, value) };
        debug_assert_eq!(set, 1, "a value that the allocator does not take");
    }
}
