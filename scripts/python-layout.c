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

#if PY_VERSION_HEX >= 0x03090000
#include "internal/pycore_gc.h"
#include "internal/pycore_interp.h"
#else
#include "internal/pycore_pymem.h"
#endif
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_dict.h"
#else
// Defined only in Objects/dict-common.h of the sources until 3.10.
struct _dictkeysobject {
    Py_ssize_t dk_refcnt, dk_size;
    void *dk_lookup;
    Py_ssize_t dk_usable, dk_nentries;
    char dk_indices[];
};
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

// What the heap snapshot reads, for objects.rs.
static void objects(void) {
    AT("object.keys_entries", PyDictKeysObject, dk_nentries);
    AT("object.keys_indices", PyDictKeysObject, dk_indices);
#if PY_VERSION_HEX >= 0x030B0000
    AT("object.keys_log2_index", PyDictKeysObject, dk_log2_index_bytes);
    AT("object.keys_kind", PyDictKeysObject, dk_kind);
    AT("object.values_first", PyDictValues, values);
#else
    IS("object.values_first", 0);
#endif
    AT("object.dict_keys", PyDictObject, ma_keys);
    AT("object.dict_values", PyDictObject, ma_values);
    AT("object.list_items", PyListObject, ob_item);
    AT("object.tuple_items", PyTupleObject, ob_item);
    AT("object.set_mask", PySetObject, mask);
    AT("object.set_table", PySetObject, table);
    AT("object.set_small_table", PySetObject, smalltable);
    IS("object.set_small", sizeof(((PySetObject *)0)->smalltable));
#if PY_VERSION_HEX < 0x030B0000
    AT("object.frame_values", PyFrameObject, f_valuestack);
#if PY_VERSION_HEX < 0x030A0000
    AT("object.frame_top", PyFrameObject, f_stacktop);
#else
    AT("object.frame_depth", PyFrameObject, f_stackdepth);
#endif
#endif
    AT("object.type_name", PyTypeObject, tp_name);
    AT("object.type_basicsize", PyTypeObject, tp_basicsize);
    AT("object.type_flags", PyTypeObject, tp_flags);
    AT("object.type_traverse", PyTypeObject, tp_traverse);
    AT("object.type_members", PyTypeObject, tp_members);
    AT("object.type_base", PyTypeObject, tp_base);
    AT("object.type_dict", PyTypeObject, tp_dict);
    AT("object.type_dictoffset", PyTypeObject, tp_dictoffset);
    AT("object.type_qualname", PyHeapTypeObject, ht_qualname);
    AT("object.type_cached_keys", PyHeapTypeObject, ht_cached_keys);
    AT("object.function_code", PyFunctionObject, func_code);
    AT("object.function_closure", PyFunctionObject, func_closure);
    AT("object.function_defaults", PyFunctionObject, func_defaults);
    AT("object.function_kwdefaults", PyFunctionObject, func_kwdefaults);
    AT("object.function_dict", PyFunctionObject, func_dict);
    IS("object.function_module", offsetof(PyFunctionObject, func_module));
    AT("object.function_qualname", PyFunctionObject, func_qualname);
    AT("object.weakref_object", PyWeakReference, wr_object);
    AT("object.cell_content", PyCellObject, ob_ref);
    AT("object.tstate_thread_id", PyThreadState, thread_id);
#if PY_VERSION_HEX >= 0x030B0000
    AT("object.frame_locals", _PyInterpreterFrame, localsplus);
    AT("object.code_nlocals", PyCodeObject, co_nlocalsplus);
    AT("object.code_names", PyCodeObject, co_localsplusnames);
    IS("object.code_cellvars", 0);
    AT("object.code_freevars", PyCodeObject, co_nfreevars);
    AT("object.frame_object_frame", PyFrameObject, f_frame);
    AT("object.generator_frame", PyGenObject, gi_iframe);
#else
    AT("object.frame_locals", PyFrameObject, f_localsplus);
    AT("object.code_nlocals", PyCodeObject, co_nlocals);
    AT("object.code_names", PyCodeObject, co_varnames);
    AT("object.code_cellvars", PyCodeObject, co_cellvars);
    AT("object.code_freevars", PyCodeObject, co_freevars);
    IS("object.frame_object_frame", 0);
    AT("object.generator_frame", PyGenObject, gi_frame);
#endif
#if PY_VERSION_HEX >= 0x030C0000
    AT("object.code_stack", PyCodeObject, co_framesize);
#elif PY_VERSION_HEX >= 0x030B0000
    AT("object.code_stack", PyCodeObject, co_stacksize);
#else
    IS("object.code_stack", 0);
#endif
#if PY_VERSION_HEX >= 0x03090000
    AT("object.gc", PyInterpreterState, gc);
#else
    AT("object.gc", _PyRuntimeState, gc);
#endif
    AT("object.gc_enabled", struct _gc_runtime_state, enabled);
    AT("object.gc_generations", struct _gc_runtime_state, generations);
    AT("object.gc_permanent", struct _gc_runtime_state, permanent_generation);
    IS("object.generation", sizeof(struct gc_generation));
    AT("object.generation_threshold", struct gc_generation, threshold);
    AT("object.generation_count", struct gc_generation, count);
#if PY_VERSION_HEX >= 0x030B0000
    AT("object.atexit", PyInterpreterState, atexit.callbacks);
#elif PY_VERSION_HEX >= 0x030A0000
    IS("object.atexit", offsetof(PyInterpreterState, atexit) + offsetof(struct atexit_state, callbacks));
#else
    IS("object.atexit", 0);
#endif
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
    objects();
    debug_offsets();
    return 0;
}
