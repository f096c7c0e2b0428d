//! Going on after a fault: for the forked copy, which follows pointers of other
//! people's making. Only ever armed in there; the program's own handlers are
//! never touched.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::spin::SpinLock;

/// What [`protect`] must put back: rbx, rbp, r12 to r15, rsp, and where to go on.
#[repr(C)]
struct Saved([u64; 8]);

static mut SAVED: Saved = Saved([0; 8]);
static ARMED: AtomicBool = AtomicBool::new(false);

/// Calls `work`. `false` if it was given up because of a fault; what it had allocated is then lost.
pub fn protect<F: FnMut()>(mut work: F) -> bool {
    extern "C" fn call<F: FnMut()>(work: *mut c_void) {
        // SAFETY: `work` is the closure of the `protect` that is waiting for this to return.
        unsafe { (*work.cast::<F>())() }
    }
    ARMED.store(true, Relaxed);
    // SAFETY: `enter` calls the function with the pointer, and returns once: either after the call
    // or from the fault handler. The copy of the process has one thread, so SAVED is not shared.
    let fine = unsafe { enter(call::<F>, (&raw mut work).cast()) } == 0;
    ARMED.store(false, Relaxed);
    fine
}

#[unsafe(naked)]
unsafe extern "C" fn enter(call: extern "C" fn(*mut c_void), work: *mut c_void) -> c_int {
    naked_asm!(
        "lea rax, [rip + {saved}]",
        "mov [rax], rbx",
        "mov [rax + 8], rbp",
        "mov [rax + 16], r12",
        "mov [rax + 24], r13",
        "mov [rax + 32], r14",
        "mov [rax + 40], r15",
        "mov [rax + 48], rsp",
        "lea rcx, [rip + 2f]",
        "mov [rax + 56], rcx",
        "sub rsp, 8",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "add rsp, 8",
        "xor eax, eax",
        "ret",
        // The handler comes here, with all registers as they were at the top.
        "2:",
        "mov eax, 1",
        "ret",
        saved = sym SAVED,
    )
}

/// What went wrong inside the shim's own code; each is a defect.
pub static DEFECTS: SpinLock<Vec<String>> = SpinLock::new(Vec::new());

/// Makes a panic one more fault to go on after.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = match panic.location() {
            Some(at) => {
                format!("{}:{}: {}", at.file(), at.line(), said.unwrap_or(""))
            }
            None => "a panic".to_owned(),
        };
        crate::log::say(&format!("the heap snapshot: {text}"));
        DEFECTS.lock().push(text);
        if ARMED.load(Relaxed) {
            // SAFETY: an instruction that only raises SIGILL, which the handler goes on after.
            unsafe { core::arch::asm!("ud2") };
        }
        crate::sys::exit_group(1);
    }));
}

/// Takes the fatal signals of this process, and leaves the others to their defaults.
pub fn install() {
    for signal in 1..=64 {
        let action: usize = match signal {
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {
                faulted as *const () as usize
            }
            // Whoever stops the program by the terminal does not mean its copy.
            libc::SIGINT | libc::SIGQUIT | libc::SIGHUP | libc::SIGTSTP => libc::SIG_IGN,
            _ => libc::SIG_DFL,
        };
        crate::sys::set_signal(signal, action);
    }
    crate::sys::unblock_signals();
    tell_panics();
}

extern "C" fn faulted(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    if !ARMED.swap(false, Relaxed) {
        crate::sys::exit_group(1);
    }
    // SAFETY: the kernel passes a `ucontext_t` to a handler with SA_SIGINFO, and takes the registers
    // from it when the handler returns. SAVED was filled by `enter`, whose frame is still there:
    // ARMED says so.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let saved = &raw const SAVED.0;
        let places = [
            libc::REG_RBX,
            libc::REG_RBP,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
            libc::REG_RSP,
            libc::REG_RIP,
        ];
        for (place, value) in places.into_iter().zip(*saved) {
            registers[place as usize] = value as i64;
        }
    }
}
