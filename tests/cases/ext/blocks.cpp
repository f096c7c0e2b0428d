// Rows in C++: new and delete, and a map that lives as long as the library.
#include <Python.h>

#include <cstring>
#include <string>
#include <unordered_map>

namespace {

struct Row {
    explicit Row(unsigned char fill) { std::memset(data, fill, sizeof data); }
    unsigned char data[4000];
};

Row *new_row(long number) {
    return new Row(static_cast<unsigned char>(number));
}

// Makes a row, and forgets it or not.
PyObject *row(PyObject *, PyObject *arguments) {
    long number;
    int forget;
    if (!PyArg_ParseTuple(arguments, "lp", &number, &forget))
        return nullptr;
    Row *made = new_row(number);
    long first = made->data[0];
    if (!forget)
        delete made;
    return PyLong_FromLong(first);
}

std::unordered_map<long, std::string> g_names;

void remember_name(long number) {
    g_names[number] = std::string(3000, static_cast<char>('a' + number % 26));
}

// Remembers a name; keeps the latest `limit` of them (0: all).
PyObject *name(PyObject *, PyObject *arguments) {
    long number, limit;
    if (!PyArg_ParseTuple(arguments, "ll", &number, &limit))
        return nullptr;
    remember_name(number);
    if (limit > 0)
        g_names.erase(number - limit);
    return PyLong_FromSize_t(g_names.size());
}

PyMethodDef methods[] = {
    {"row", row, METH_VARARGS, nullptr},
    {"name", name, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "blocks", nullptr, -1, methods,
                          nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_blocks(void) {
    return PyModule_Create(&definition);
}
