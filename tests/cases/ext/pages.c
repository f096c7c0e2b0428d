/* Memory straight from the kernel. */
#include <Python.h>
#include <string.h>
#include <sys/mman.h>

static void *map_pages(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    return memset(at, 3, size);
}

#define SLOTS 65536
static void *g_mapped[SLOTS];

/* Maps pages and keeps them; `limit`: how many mappings at most, 0 for all. */
static PyObject *keep_pages(PyObject *module, PyObject *arguments) {
    unsigned long key, size, limit;
    if (!PyArg_ParseTuple(arguments, "kkk", &key, &size, &limit))
        return NULL;
    unsigned long slot = key % (limit != 0 ? limit : SLOTS);
    if (g_mapped[slot] != NULL)
        munmap(g_mapped[slot], size);
    g_mapped[slot] = map_pages(size);
    if (g_mapped[slot] == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"keep_pages", keep_pages, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "pages", .m_methods = methods};

PyMODINIT_FUNC PyInit_pages(void) {
    return PyModule_Create(&definition);
}
