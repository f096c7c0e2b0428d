/* Types of an extension: one that owns native memory, and three that hold an
   object: as the collector wants it, without taking part in it, and with a
   tp_traverse that forgets the object. */
#include <Python.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    size_t size;
    unsigned char *data;
} Blob;

static unsigned char *blob_data(size_t size) {
    unsigned char *data = malloc(size);
    if (data != NULL)
        memset(data, 5, size);
    return data;
}

static PyObject *blob_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "n", &size))
        return NULL;
    Blob *blob = (Blob *)type->tp_alloc(type, 0);
    if (blob == NULL)
        return NULL;
    blob->size = (size_t)size;
    blob->data = blob_data((size_t)size);
    return (PyObject *)blob;
}

static void blob_dealloc(PyObject *self) {
    free(((Blob *)self)->data);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject BlobType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "boxes.Blob",
    .tp_basicsize = sizeof(Blob),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = blob_new,
    .tp_dealloc = blob_dealloc,
};

typedef struct {
    PyObject_HEAD
    PyObject *held;
} Holder;

static PyObject *holder_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    PyObject *held;
    if (!PyArg_ParseTuple(arguments, "O", &held))
        return NULL;
    Holder *holder = (Holder *)type->tp_alloc(type, 0);
    if (holder == NULL)
        return NULL;
    Py_INCREF(held);
    holder->held = held;
    return (PyObject *)holder;
}

static int holder_clear(PyObject *self) {
    Py_CLEAR(((Holder *)self)->held);
    return 0;
}

static int holder_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((Holder *)self)->held);
    return 0;
}

static int forgetful_traverse(PyObject *self, visitproc visit, void *arg) {
    return 0;
}

static void holder_dealloc(PyObject *self) {
    if (PyObject_IS_GC(self))
        PyObject_GC_UnTrack(self);
    holder_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject HolderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "boxes.Holder",
    .tp_basicsize = sizeof(Holder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = holder_new,
    .tp_dealloc = holder_dealloc,
    .tp_traverse = holder_traverse,
    .tp_clear = holder_clear,
};

static PyTypeObject PlainType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "boxes.Plain",
    .tp_basicsize = sizeof(Holder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = holder_new,
    .tp_dealloc = holder_dealloc,
};

static PyTypeObject ForgetfulType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "boxes.Forgetful",
    .tp_basicsize = sizeof(Holder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = holder_new,
    .tp_dealloc = holder_dealloc,
    .tp_traverse = forgetful_traverse,
    .tp_clear = holder_clear,
};

/* Native memory in a capsule, which frees it. */
static void capsule_free(PyObject *capsule) {
    free(PyCapsule_GetPointer(capsule, "boxes.data"));
}

static PyObject *capsule(PyObject *module, PyObject *size) {
    unsigned char *data = blob_data(PyLong_AsSize_t(size));
    return data ? PyCapsule_New(data, "boxes.data", capsule_free) : PyErr_NoMemory();
}

static PyMethodDef methods[] = {
    {"capsule", capsule, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "boxes", .m_methods = methods};

PyMODINIT_FUNC PyInit_boxes(void) {
    PyTypeObject *types[] = {&BlobType, &HolderType, &PlainType, &ForgetfulType};
    PyObject *module = PyModule_Create(&definition);
    for (int i = 0; module != NULL && i < 4; i++) {
        if (PyType_Ready(types[i]) < 0)
            return NULL;
        Py_INCREF(types[i]);
        PyModule_AddObject(module, strchr(types[i]->tp_name, '.') + 1, (PyObject *)types[i]);
    }
    return module;
}
