//! Where CPython keeps what the heap snapshot reads of its objects, one row for
//! each minor version, taken from its headers by `scripts/python-layout`.
//!
//! What is the same in all of them is a constant.

/// `PyObject.ob_refcnt`.
pub const REFCOUNT: usize = 0;
/// `PyObject.ob_type`.
pub const TYPE: usize = 8;
/// `PyVarObject.ob_size`.
pub const SIZE: usize = 16;
/// Size of `PyGC_Head`, which stands before an object that the collector can track.
pub const GC_HEAD: usize = 16;

/// `PyDictObject.ma_keys`.
pub const DICT_KEYS: usize = 32;
/// `PyDictObject.ma_values`.
pub const DICT_VALUES: usize = 40;
/// `PyListObject.ob_item`.
pub const LIST_ITEMS: usize = 24;
/// `PySetObject.mask`: one less than the table has entries.
pub const SET_MASK: usize = 32;
/// `PySetObject.table`.
pub const SET_TABLE: usize = 40;
/// `PySetObject.smalltable`, the table of a small one.
pub const SET_SMALL_TABLE: usize = 64;
/// Its size.
pub const SET_SMALL: usize = 128;
/// `PyFrameObject.f_valuestack`, before 3.11.
pub const FRAME_VALUES: usize = 64;
/// `PyFrameObject.f_stacktop`, in 3.8 and 3.9.
pub const FRAME_TOP: usize = 72;
/// `PyFrameObject.f_stackdepth`, in 3.10.
pub const FRAME_DEPTH: usize = 80;
/// `PyTypeObject.tp_name`.
pub const TYPE_NAME: usize = 24;
/// `PyTypeObject.tp_basicsize`.
pub const TYPE_BASICSIZE: usize = 32;
/// `PyTypeObject.tp_itemsize`.
pub const TYPE_ITEMSIZE: usize = 40;
/// `PyTypeObject.tp_flags`.
pub const TYPE_FLAGS: usize = 168;
/// `PyTypeObject.tp_traverse`.
pub const TYPE_TRAVERSE: usize = 184;
/// `PyTypeObject.tp_members`.
pub const TYPE_MEMBERS: usize = 240;
/// `PyTypeObject.tp_base`.
pub const TYPE_BASE: usize = 256;
/// `PyTypeObject.tp_dict`.
pub const TYPE_DICT: usize = 264;
/// `PyTypeObject.tp_dictoffset`.
pub const TYPE_DICTOFFSET: usize = 288;
/// Size of `PyTypeObject`, at least.
pub const TYPE_SIZE: usize = 408;
/// `PyModuleObject.md_dict` (`internal/pycore_moduleobject.h`).
pub const MODULE_DICT: usize = 16;
/// `PyCellObject.ob_ref`.
pub const CELL_CONTENT: usize = 16;
/// `PyWeakReference.wr_object`, followed by the callback, the hash, and the links to its neighbours.
pub const WEAKREF_OBJECT: usize = 16;

/// `Py_TPFLAGS_*` (`object.h`).
pub mod flags {
    /// `Py_TPFLAGS_INLINE_VALUES`, from 3.13.
    pub const INLINE_VALUES: u64 = 1 << 2;
    /// `Py_TPFLAGS_MANAGED_WEAKREF`, from 3.12.
    pub const MANAGED_WEAKREF: u64 = 1 << 3;
    /// `Py_TPFLAGS_MANAGED_DICT`, from 3.11.
    pub const MANAGED_DICT: u64 = 1 << 4;
    /// `Py_TPFLAGS_HEAPTYPE`.
    pub const HEAP_TYPE: u64 = 1 << 9;
    /// `Py_TPFLAGS_HAVE_GC`.
    pub const HAVE_GC: u64 = 1 << 14;
    /// `Py_TPFLAGS_LIST_SUBCLASS`.
    pub const LIST: u64 = 1 << 25;
    /// `Py_TPFLAGS_TUPLE_SUBCLASS`.
    pub const TUPLE: u64 = 1 << 26;
    /// `Py_TPFLAGS_BYTES_SUBCLASS`.
    pub const BYTES: u64 = 1 << 27;
    /// `Py_TPFLAGS_UNICODE_SUBCLASS`.
    pub const UNICODE: u64 = 1 << 28;
    /// `Py_TPFLAGS_DICT_SUBCLASS`.
    pub const DICT: u64 = 1 << 29;
    /// `Py_TPFLAGS_TYPE_SUBCLASS`.
    pub const TYPE: u64 = 1 << 31;
}

/// Where a dict's keys object keeps its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DictKeys {
    /// 3.8 to 3.10: `dk_size` says how wide an index is; all entries are hash, key, value.
    Sized,
    /// From 3.11: the logarithm of the indices' size stands at 9, the kind at 10; entries of a kind
    /// other than 0 are key and value.
    Kinds,
}

/// Offsets in bytes, for one minor version.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    /// The `8` of 3.8.
    pub minor: u8,
    /// `PyDictKeysObject.dk_nentries` (`internal/pycore_dict.h`).
    pub keys_entries: u16,
    /// `PyDictKeysObject.dk_indices`.
    pub keys_indices: u16,
    /// The shape of the keys object.
    pub keys: DictKeys,
    /// `PyDictValues.values`.
    pub values_first: u16,
    /// `PyTupleObject.ob_item`.
    pub tuple_items: u16,
    /// `PyHeapTypeObject.ht_qualname`.
    pub type_qualname: u16,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub type_cached_keys: u16,
    /// `PyFunctionObject.func_code`.
    pub function_code: u16,
    /// `PyFunctionObject.func_closure`.
    pub function_closure: u16,
    /// `PyFunctionObject.func_defaults`.
    pub function_defaults: u16,
    /// `PyFunctionObject.func_kwdefaults`.
    pub function_kwdefaults: u16,
    /// `PyFunctionObject.func_dict`.
    pub function_dict: u16,
    /// `PyFunctionObject.func_qualname`.
    pub function_qualname: u16,
    /// `PyThreadState.thread_id`.
    pub tstate_thread_id: u16,
    /// `localsplus` of a frame.
    pub frame_locals: u16,
    /// `co_nlocalsplus`; `co_nlocals` before 3.11.
    pub code_nlocals: u16,
    /// `co_localsplusnames`; `co_varnames` before 3.11.
    pub code_names: u16,
    /// `co_cellvars`, before 3.11; else 0.
    pub code_cellvars: u16,
    /// `co_freevars` before 3.11; else `co_nfreevars`.
    pub code_freevars: u16,
    /// Slots of a frame beyond the locals: `co_stacksize` in 3.11, `co_framesize` from 3.12, which
    /// counts the frame itself; else 0.
    pub code_stack: u16,
    /// `PyGenObject.gi_iframe`; `gi_frame` before 3.11.
    pub generator_frame: u16,
    /// `PyFrameObject.f_frame`, from 3.11.
    pub frame_object_frame: u16,
    /// `PyInterpreterState.gc`; in 3.8 `_PyRuntimeState.gc`.
    pub gc: u16,
    /// `_gc_runtime_state.enabled`.
    pub gc_enabled: u16,
    /// `_gc_runtime_state.generations`.
    pub gc_generations: u16,
    /// `_gc_runtime_state.permanent_generation`.
    pub gc_permanent: u16,
    /// `PyInterpreterState.atexit.callbacks`, from 3.10; else 0.
    pub atexit: u16,
}

impl Objects {
    /// Bits of the word that leads to the next object of the collector's which are none of its address.
    /// (The incremental collector of 3.14.0 to 3.14.4 notes there which of its halves an object is in:
    /// `_PyGC_NEXT_MASK_OLD_SPACE_1`.)
    pub fn next_flags(&self) -> usize {
        usize::from(self.minor == 14)
    }
}

/// Size of `struct gc_generation`: a list head, then the threshold, then the count.
pub const GENERATION: usize = 24;
/// `gc_generation.threshold`, an `int`.
pub const GENERATION_THRESHOLD: usize = 16;
/// `gc_generation.count`, an `int`.
pub const GENERATION_COUNT: usize = 20;

const V8: Objects = Objects {
    minor: 8,
    keys_entries: 32,
    keys_indices: 40,
    keys: DictKeys::Sized,
    values_first: 0,
    tuple_items: 24,
    type_qualname: 864,
    type_cached_keys: 872,
    function_code: 16,
    function_closure: 48,
    function_defaults: 32,
    function_kwdefaults: 40,
    function_dict: 72,
    function_qualname: 104,
    tstate_thread_id: 176,
    frame_locals: 360,
    code_nlocals: 28,
    code_names: 72,
    code_cellvars: 88,
    code_freevars: 80,
    code_stack: 0,
    generator_frame: 16,
    frame_object_frame: 0,
    gc: 344,
    gc_enabled: 12,
    gc_generations: 24,
    gc_permanent: 104,
    atexit: 0,
};

const V9: Objects = Objects { minor: 9, type_qualname: 856, type_cached_keys: 864, gc: 616, ..V8 };

const V10: Objects = Objects {
    minor: 10,
    type_qualname: 864,
    type_cached_keys: 872,
    function_code: 48,
    function_closure: 72,
    function_defaults: 56,
    function_kwdefaults: 64,
    function_dict: 88,
    function_qualname: 40,
    frame_locals: 352,
    atexit: 3488,
    ..V9
};

const V11: Objects = Objects {
    minor: 11,
    keys_entries: 24,
    keys_indices: 32,
    keys: DictKeys::Kinds,
    tstate_thread_id: 152,
    frame_locals: 72,
    code_nlocals: 76,
    code_names: 96,
    code_cellvars: 0,
    code_freevars: 92,
    code_stack: 68,
    generator_frame: 80,
    frame_object_frame: 24,
    gc: 648,
    atexit: 3536,
    ..V10
};

const V12: Objects = Objects {
    minor: 12,
    type_qualname: 872,
    type_cached_keys: 880,
    tstate_thread_id: 136,
    code_nlocals: 72,
    code_freevars: 88,
    code_stack: 76,
    generator_frame: 72,
    gc: 112,
    atexit: 3944,
    ..V11
};

const V13: Objects =
    Objects { minor: 13, values_first: 8, tstate_thread_id: 152, gc: 7400, atexit: 10712, ..V12 };

const V14: Objects = Objects {
    minor: 14,
    tuple_items: 32,
    frame_locals: 80,
    gc: 7408,
    gc_permanent: 96,
    atexit: 10792,
    ..V13
};

const V15: Objects = Objects {
    minor: 15,
    type_qualname: 880,
    type_cached_keys: 888,
    tstate_thread_id: 176,
    gc: 7400,
    gc_enabled: 0,
    gc_generations: 8,
    gc_permanent: 80,
    atexit: 10768,
    ..V14
};

/// All versions that are known.
pub static OBJECTS: &[Objects] = &[V8, V9, V10, V11, V12, V13, V14, V15];

/// The row of 3.`minor`.
pub fn for_minor(minor: u8) -> Option<&'static Objects> {
    OBJECTS.iter().find(|one| one.minor == minor)
}
