// Prints what one CPython's headers say of the fields that pyshim reads: a line
// `minor field value` for each, with the names of shim/src/python/layout.rs.
// Compiled and compared by scripts/python-layout.

#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "internal/pycore_pystate.h"
#if PY_VERSION_HEX >= 0x03090000
#include "internal/pycore_runtime.h"
#endif
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_code.h"
#include "internal/pycore_frame.h"
#endif
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe_structs.h"
#include "internal/pycore_stackref.h"
#endif

#ifdef Py_GIL_DISABLED
#error "free-threaded builds have other layouts and are not supported"
#endif

#define IS(field, value) printf("%d %s %lld\n", PY_MINOR_VERSION, field, (long long)(value))
#define AT(field, type, member) IS(field, offsetof(type, member))

// The number of the lowest bit that `assignment` sets in a string's state.
#define STATE_BIT(field, assignment)                    \
    do {                                                \
        PyASCIIObject string;                           \
        unsigned int word;                              \
        memset(&string, 0, sizeof string);              \
        string.state.assignment;                        \
        memcpy(&word, &string.state, sizeof word);      \
        IS(field, word == 0 ? -1 : __builtin_ctz(word)); \
    } while (0)

// Where a field of `_Py_DebugOffsets` stands, for debug_offsets.rs.
#define DEBUG(member) AT("debug." #member, struct _Py_DebugOffsets, member)

static void frames(void) {
#if PY_VERSION_HEX < 0x030B0000
    AT("tstate_frame", PyThreadState, frame);
    IS("cframe_current", 0);
    AT("frame_previous", PyFrameObject, f_back);
    AT("frame_code", PyFrameObject, f_code);
    AT("frame_instr", PyFrameObject, f_lasti);
#elif PY_VERSION_HEX < 0x030D0000
    AT("tstate_frame", PyThreadState, cframe);
    AT("cframe_current", _PyCFrame, current_frame);
    AT("frame_previous", _PyInterpreterFrame, previous);
    AT("frame_code", _PyInterpreterFrame, f_code);
    AT("frame_instr", _PyInterpreterFrame, prev_instr);
#else
    AT("tstate_frame", PyThreadState, current_frame);
    IS("cframe_current", 0);
    AT("frame_previous", _PyInterpreterFrame, previous);
    AT("frame_code", _PyInterpreterFrame, f_executable);
    AT("frame_instr", _PyInterpreterFrame, instr_ptr);
#endif

#if PY_VERSION_HEX >= 0x030B0000
    AT("frame_owner", _PyInterpreterFrame, owner);
    IS("generator_owner", FRAME_OWNED_BY_GENERATOR);
#endif
#if PY_VERSION_HEX >= 0x030E0000
    IS("entry_owner", FRAME_OWNED_BY_INTERPRETER);
#elif PY_VERSION_HEX >= 0x030C0000
    IS("entry_owner", FRAME_OWNED_BY_CSTACK);
#elif PY_VERSION_HEX >= 0x030B0000
    AT("entry_flag", _PyInterpreterFrame, is_entry);
#endif

    // What the mask must clear for the word to be a pointer.
#if PY_VERSION_HEX >= 0x030E0000
    IS("code_tag", Py_TAG_BITS);
#else
    IS("code_tag", 0);
#endif
    // The walk relies on it for every version.
    AT("tstate_interp", PyThreadState, interp);
    AT("tstate_thread", PyThreadState, thread_id);
}

static void code(void) {
    AT("code_filename", PyCodeObject, co_filename);
    AT("code_firstlineno", PyCodeObject, co_firstlineno);
#if PY_VERSION_HEX >= 0x030A0000
    AT("code_linetable", PyCodeObject, co_linetable);
#else
    AT("code_linetable", PyCodeObject, co_lnotab);
#endif
#if PY_VERSION_HEX >= 0x030B0000
    AT("code_name", PyCodeObject, co_qualname);
    AT("code_start", PyCodeObject, co_code_adaptive);
    AT("code_first_traceable", PyCodeObject, _co_firsttraceable);
#else
    AT("code_name", PyCodeObject, co_name);
    IS("code_start", 0);
    IS("code_first_traceable", 0);
#endif
}

static void runtime(void) {
#if PY_VERSION_HEX >= 0x03090000
    AT("runtime_finalizing", _PyRuntimeState, _finalizing);
#else
    AT("runtime_finalizing", _PyRuntimeState, finalizing);
#endif
    // From 3.14 on sub-interpreters end before the runtime says that it does.
#if PY_VERSION_HEX >= 0x030E0000
    AT("interp_begun", PyInterpreterState, finalizing);
    AT("interp_finalizing", PyInterpreterState, _finalizing);
#else
    IS("interp_begun", 0);
    IS("interp_finalizing", 0);
#endif
}

static void strings(void) {
    AT("unicode.length", PyASCIIObject, length);
    AT("unicode.state", PyASCIIObject, state);
    IS("unicode.ascii_data", sizeof(PyASCIIObject));
    IS("unicode.compact_data", sizeof(PyCompactUnicodeObject));
    AT("unicode.bytes_size", PyVarObject, ob_size);
    AT("unicode.bytes_data", PyBytesObject, ob_sval);
    STATE_BIT("unicode.kind_bit", kind = 1);
    STATE_BIT("unicode.compact_bit", compact = 1);
    STATE_BIT("unicode.ascii_bit", ascii = 1);
}

static void debug_offsets(void) {
#if PY_VERSION_HEX >= 0x030D0000
    DEBUG(version);
    DEBUG(free_threaded);
    DEBUG(runtime_state.finalizing);
    DEBUG(thread_state.current_frame);
    DEBUG(interpreter_frame.previous);
    DEBUG(interpreter_frame.executable);
    DEBUG(interpreter_frame.instr_ptr);
    DEBUG(interpreter_frame.owner);
    DEBUG(code_object.filename);
    DEBUG(code_object.qualname);
    DEBUG(code_object.linetable);
    DEBUG(code_object.firstlineno);
    DEBUG(code_object.co_code_adaptive);
    DEBUG(bytes_object.ob_size);
    DEBUG(bytes_object.ob_sval);
    DEBUG(unicode_object.state);
    DEBUG(unicode_object.length);
    DEBUG(unicode_object.asciiobject_size);
#endif
}

int main(void) {
    frames();
    code();
    runtime();
    strings();
    debug_offsets();
    return 0;
}
