//! The functions that ours stand before: the next ones in the loader's order.
//!
//! Found by `dlsym` at the first call or in the constructor, whichever comes
//! first; both happen while the process has one thread. What `dlsym` itself
//! allocates meanwhile comes from a small pool.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

macro_rules! real {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        // Named as in C.
        #[allow(non_snake_case)]
        pub struct Table { $($name: AtomicUsize,)* }
        /// Their addresses, once they are found.
        pub static TABLE: Table = Table { $($name: AtomicUsize::new(0),)* };

        fn find_all() {
            $(TABLE.$name.store(next(concat!(stringify!($name), "\0").as_bytes()), Relaxed);)*
        }

        $(
            #[allow(non_snake_case)]
            /// The function of this name; `None` where the C library has none.
            #[inline(always)]
            pub fn $name() -> Option<unsafe extern "C" fn($($arg),*) $(-> $result)?> {
                let mut address = TABLE.$name.load(Relaxed);
                if address == 0 {
                    address = find_late(&TABLE.$name);
                }
                // SAFETY: zero is `None`; otherwise the address of the C function of this name,
                // whose type is written above.
                unsafe { core::mem::transmute(address) }
            }
        )*
    };
}

real! {
    malloc: fn(usize) -> *mut c_void;
    calloc: fn(usize, usize) -> *mut c_void;
    realloc: fn(*mut c_void, usize) -> *mut c_void;
    reallocarray: fn(*mut c_void, usize, usize) -> *mut c_void;
    free: fn(*mut c_void);
    posix_memalign: fn(*mut *mut c_void, usize, usize) -> c_int;
    aligned_alloc: fn(usize, usize) -> *mut c_void;
    memalign: fn(usize, usize) -> *mut c_void;
    valloc: fn(usize) -> *mut c_void;
    pvalloc: fn(usize) -> *mut c_void;
    mmap: fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;
    munmap: fn(*mut c_void, usize) -> c_int;
    mremap: fn(*mut c_void, usize, usize, c_int, *mut c_void) -> *mut c_void;
    shmat: fn(c_int, *const c_void, c_int) -> *mut c_void;
    shmdt: fn(*const c_void) -> c_int;
    _exit: fn(c_int);
    execve: fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    execv: fn(*const c_char, *const *const c_char) -> c_int;
    execvp: fn(*const c_char, *const *const c_char) -> c_int;
    execvpe: fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    fexecve: fn(c_int, *const *const c_char, *const *const c_char) -> c_int;
    dlclose: fn(*mut c_void) -> c_int;
    _Fork: fn() -> c_int;
}

/// Where in [`TABLE`] those are that sampled mode jumps to.
pub const MALLOC: usize = core::mem::offset_of!(Table, malloc);
/// See [`MALLOC`].
pub const CALLOC: usize = core::mem::offset_of!(Table, calloc);
/// See [`MALLOC`].
pub const REALLOC: usize = core::mem::offset_of!(Table, realloc);
/// See [`MALLOC`].
pub const FREE: usize = core::mem::offset_of!(Table, free);

/// The next `dlopen`, for the trampoline that jumps to it.
pub static DLOPEN: AtomicUsize = AtomicUsize::new(0);

static RESOLVED: AtomicBool = AtomicBool::new(false);
static RESOLVING: AtomicBool = AtomicBool::new(false);

#[cold]
fn find_late(slot: &AtomicUsize) -> usize {
    if !RESOLVED.load(Relaxed) && !RESOLVING.load(Relaxed) {
        resolve();
    }
    slot.load(Relaxed)
}

/// Finds all functions.
pub fn resolve() {
    if RESOLVED.load(Relaxed) || RESOLVING.swap(true, Relaxed) {
        return;
    }
    find_all();
    DLOPEN.store(next(b"dlopen\0"), Relaxed);
    // A name that is not there leaves an error message behind, which the program must not find.
    // SAFETY: takes the message away; no arguments.
    unsafe { libc::dlerror() };
    RESOLVED.store(true, Relaxed);
}

fn next(name: &[u8]) -> usize {
    // SAFETY: `name` ends in zero.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) as usize }
}

/// A symbol of the program or of `handle`; 0 where there is none.
pub fn symbol(handle: *mut c_void, name: &CStr) -> usize {
    // SAFETY: `handle` is one of the loader's, and `name` ends in zero.
    unsafe {
        let address = libc::dlsym(handle, name.as_ptr()) as usize;
        if address == 0 {
            libc::dlerror();
        }
        address
    }
}

/// Bytes of [`POOL_BYTES`].
pub const POOL: usize = 32 << 10;

/// Memory for blocks.
#[repr(align(16))]
pub struct Pool(core::cell::UnsafeCell<[u8; POOL]>);

// SAFETY: the bytes are handed out once each, by an atomic counter.
unsafe impl Sync for Pool {}

/// What is handed out before the real allocator is known.
pub static POOL_BYTES: Pool = Pool(core::cell::UnsafeCell::new([0; POOL]));
static POOL_USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory for the time before the real allocator is known.
#[cold]
pub fn early(size: usize) -> *mut c_void {
    // A word before each block keeps its size, for `realloc`.
    let whole = size.next_multiple_of(16).saturating_add(16);
    let at = POOL_USED.fetch_add(whole, Relaxed);
    if whole > POOL || at > POOL - whole {
        return core::ptr::null_mut();
    }
    // SAFETY: `at..at + whole` lies in the pool and belongs to this call.
    unsafe {
        let block = POOL_BYTES.0.get().cast::<u8>().add(at);
        block.cast::<usize>().write(size);
        block.add(16).cast()
    }
}

/// The size of a block of the pool; `None` for any other address.
pub fn early_size(block: *mut c_void) -> Option<usize> {
    let start = POOL_BYTES.0.get() as usize;
    let at = block as usize;
    if at < start + 16 || at >= start + POOL {
        return None;
    }
    // SAFETY: blocks of the pool have their size 16 bytes before them.
    Some(unsafe { *((at - 16) as *const usize) })
}

/// `mallinfo2`, which glibc has from 2.33 on.
pub fn mallinfo() -> Option<libc::mallinfo2> {
    let address = symbol(libc::RTLD_DEFAULT, c"mallinfo2");
    if address == 0 {
        return None;
    }
    // SAFETY: the address of the function of this name and type.
    let mallinfo2: extern "C" fn() -> libc::mallinfo2 = unsafe { core::mem::transmute(address) };
    Some(mallinfo2())
}
