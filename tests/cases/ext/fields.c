/* Takes rows apart. A function whose `forget` is true leaves out a Py_DECREF, as
   released extensions have done. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static void release(PyObject *object, int forget) {
    if (!forget)
        Py_XDECREF(object);
}

/* Appends slices of a row to a list: PyList_Append takes a reference of its own. */
static PyObject *split(PyObject *module, PyObject *arguments) {
    const char *row;
    Py_ssize_t size;
    int forget;
    if (!PyArg_ParseTuple(arguments, "y#p", &row, &size, &forget))
        return NULL;
    PyObject *fields = PyList_New(0);
    for (Py_ssize_t at = 0; at + 1000 <= size; at += 1000) {
        PyObject *field = PyBytes_FromStringAndSize(row + at, 1000);
        PyList_Append(fields, field);
        release(field, forget);
    }
    return fields;
}

/* A list that is made for the way, and not given back. */
static PyObject *total(PyObject *module, PyObject *arguments) {
    long count;
    int forget;
    if (!PyArg_ParseTuple(arguments, "lp", &count, &forget))
        return NULL;
    PyObject *list = PyList_New(count);
    for (long i = 0; i < count; i++)
        PyList_SET_ITEM(list, i, PyLong_FromLong(i % 100));
    PyObject *first = PyList_GET_ITEM(list, count - 1);
    Py_INCREF(first);
    release(list, forget);
    return first;
}

/* PyDict_SetItemString takes a reference of its own too. */
static PyObject *record(PyObject *module, PyObject *arguments) {
    int forget;
    if (!PyArg_ParseTuple(arguments, "p", &forget))
        return NULL;
    PyObject *record = PyDict_New();
    PyObject *inner = PyDict_New();
    for (long i = 0; i < 40; i++) {
        PyObject *key = PyLong_FromLong(i);
        PyDict_SetItem(inner, key, Py_None);
        Py_DECREF(key);
    }
    PyDict_SetItemString(record, "inner", inner);
    release(inner, forget);
    return record;
}

/* The text of an object, of which only the length is wanted. */
static PyObject *text_length(PyObject *module, PyObject *arguments) {
    PyObject *object;
    int forget;
    if (!PyArg_ParseTuple(arguments, "Op", &object, &forget))
        return NULL;
    PyObject *text = PyObject_Str(object);
    if (text == NULL)
        return NULL;
    Py_ssize_t length = PyUnicode_GetLength(text);
    release(text, forget);
    return PyLong_FromSsize_t(length);
}

/* Makes an instance, asks it for `weight`, forgets the instance. */
static PyObject *weigh(PyObject *module, PyObject *arguments) {
    PyObject *type;
    int forget;
    if (!PyArg_ParseTuple(arguments, "Op", &type, &forget))
        return NULL;
    PyObject *made = PyObject_CallObject(type, NULL);
    if (made == NULL)
        return NULL;
    PyObject *weight = PyObject_GetAttrString(made, "weight");
    release(made, forget);
    return weight;
}

/* Reads an attribute; PyObject_GetAttrString returns a new reference. */
static PyObject *attribute_size(PyObject *module, PyObject *arguments) {
    PyObject *object;
    int forget;
    if (!PyArg_ParseTuple(arguments, "Op", &object, &forget))
        return NULL;
    PyObject *value = PyObject_GetAttrString(object, "value");
    if (value == NULL)
        return NULL;
    Py_ssize_t size = PyObject_Size(value);
    release(value, forget);
    return PyLong_FromSsize_t(size);
}

/* Sums what an iterator yields; PyIter_Next returns new references. */
static PyObject *lengths(PyObject *module, PyObject *arguments) {
    PyObject *rows, *row;
    int forget;
    if (!PyArg_ParseTuple(arguments, "Op", &rows, &forget))
        return NULL;
    PyObject *iterator = PyObject_GetIter(rows);
    if (iterator == NULL)
        return NULL;
    Py_ssize_t sum = 0;
    while ((row = PyIter_Next(iterator)) != NULL) {
        sum += PyObject_Size(row);
        release(row, forget);
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(sum);
}

/* Takes a reference to its argument for the time of the call, and keeps it if
   the argument was not what it wants. */
static PyObject *check(PyObject *module, PyObject *arguments) {
    PyObject *row;
    int forget;
    if (!PyArg_ParseTuple(arguments, "Op", &row, &forget))
        return NULL;
    Py_INCREF(row);
    if (PyObject_Size(row) % 2 != 0) {
        release(row, forget);
        PyErr_SetString(PyExc_ValueError, "a row has an even length");
        return NULL;
    }
    Py_DECREF(row);
    Py_RETURN_TRUE;
}

/* Builds a result, and on an error forgets what it had built. */
static PyObject *build(PyObject *module, PyObject *arguments) {
    long count;
    int fail, forget;
    if (!PyArg_ParseTuple(arguments, "lpp", &count, &fail, &forget))
        return NULL;
    PyObject *list = PyList_New(0);
    for (long i = 0; i < count; i++) {
        PyObject *cell = PyFloat_FromDouble(i * 0.5);
        PyList_Append(list, cell);
        Py_DECREF(cell);
    }
    if (fail) {
        release(list, forget);
        PyErr_SetString(PyExc_ValueError, "the last cell is missing");
        return NULL;
    }
    return list;
}

/* Counts up None and True without end. Nothing leaks: there is one of each. */
static PyObject *no_and_yes(PyObject *module, PyObject *none) {
    Py_INCREF(Py_None);
    Py_INCREF(Py_True);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"split", split, METH_VARARGS, NULL},
    {"total", total, METH_VARARGS, NULL},
    {"record", record, METH_VARARGS, NULL},
    {"text_length", text_length, METH_VARARGS, NULL},
    {"weigh", weigh, METH_VARARGS, NULL},
    {"attribute_size", attribute_size, METH_VARARGS, NULL},
    {"lengths", lengths, METH_VARARGS, NULL},
    {"check", check, METH_VARARGS, NULL},
    {"build", build, METH_VARARGS, NULL},
    {"no_and_yes", no_and_yes, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "fields", .m_methods = methods};

PyMODINIT_FUNC PyInit_fields(void) {
    return PyModule_Create(&definition);
}
