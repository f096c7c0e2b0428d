// rowpack: packs a record (a dict with texts and integers) into bytes.
//
//   magic u8, number of fields u16, then for each: length of the name u8, name,
//   kind u8 (0 text, 1 integer), text: length u16 and UTF-8, integer: 8 bytes
//
// A deleted record is a single zero byte. This is half of the leaky application:
// on one path it forgets a block, which pyshim is to find.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0xD7, HEADER = 3, TEXT = 0, INTEGER = 1 };
enum { SMALLEST = 1024 };

// What a row is packed into before its length is known.
struct buffer {
    unsigned char *data;
    size_t used;
    size_t room;
};

static int grow(struct buffer *buffer, size_t wanted) {
    size_t room = buffer->room ? buffer->room : SMALLEST;
    while (room - buffer->used < wanted)
        room *= 2;
    if (room != buffer->room) {
        unsigned char *data = realloc(buffer->data, room);
        if (data == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        buffer->data = data;
        buffer->room = room;
    }
    return 0;
}

static int put(struct buffer *buffer, const void *data, size_t len) {
    if (grow(buffer, len) < 0)
        return -1;
    memcpy(buffer->data + buffer->used, data, len);
    buffer->used += len;
    return 0;
}

static int put_number(struct buffer *buffer, uint64_t value, size_t bytes) {
    unsigned char out[8];
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
    return put(buffer, out, bytes);
}

static int put_name(struct buffer *buffer, PyObject *name) {
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    if (text == NULL)
        return -1;
    if (len > UINT8_MAX) {
        PyErr_SetString(PyExc_ValueError, "the name of a field has more than 255 bytes");
        return -1;
    }
    return put_number(buffer, (uint64_t)len, 1) < 0 ? -1 : put(buffer, text, (size_t)len);
}

static int put_value(struct buffer *buffer, PyObject *value) {
    if (PyLong_Check(value)) {
        long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred())
            return -1;
        return put_number(buffer, INTEGER, 1) < 0 ? -1 : put_number(buffer, (uint64_t)number, 8);
    }
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(value, &len);
    if (text == NULL)
        return -1;
    if (len > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "a text has more than 65535 bytes");
        return -1;
    }
    if (put_number(buffer, TEXT, 1) < 0 || put_number(buffer, (uint64_t)len, 2) < 0)
        return -1;
    return put(buffer, text, (size_t)len);
}

static int put_fields(struct buffer *buffer, PyObject *row) {
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(row, &at, &name, &value)) {
        if (put_name(buffer, name) < 0 || put_value(buffer, value) < 0)
            return -1;
    }
    return 0;
}

static int is_tombstone(PyObject *row) {
    PyObject *deleted = PyDict_GetItemString(row, "deleted");
    return deleted != NULL && PyObject_IsTrue(deleted) == 1;
}

static PyObject *pack(PyObject *module, PyObject *row) {
    (void)module;
    if (!PyDict_Check(row)) {
        PyErr_Format(PyExc_TypeError, "a row is a dict, not %s", Py_TYPE(row)->tp_name);
        return NULL;
    }
    struct buffer buffer = {malloc(SMALLEST), 0, SMALLEST};
    if (buffer.data == NULL)
        return PyErr_NoMemory();

    if (is_tombstone(row))
        return PyBytes_FromStringAndSize("\0", 1);

    PyObject *packed = NULL;
    if (put_number(&buffer, MAGIC, 1) == 0 &&
        put_number(&buffer, (uint64_t)PyDict_Size(row), HEADER - 1) == 0 &&
        put_fields(&buffer, row) == 0)
        packed = PyBytes_FromStringAndSize((const char *)buffer.data, (Py_ssize_t)buffer.used);
    free(buffer.data);
    return packed;
}

static PyMethodDef methods[] = {
    {"pack", pack, METH_O, "pack(row) -> bytes\n\nPacks a record."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "rowpack",
    .m_doc = "Packs records into bytes.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_rowpack(void) {
    return PyModuleDef_Init(&definition);
}
