/* Keeps rows in native memory that native roots lead to. Each `limit` is how
   many of the latest are kept; 0: all. */
#include <Python.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next;
    unsigned long key;
    char data[3000];
};

static struct entry *new_entry(unsigned long key) {
    struct entry *entry = malloc(sizeof *entry);
    memset(entry->data, (int)key, sizeof entry->data);
    entry->key = key;
    entry->next = NULL;
    return entry;
}

static int arguments_of(PyObject *arguments, unsigned long *key, unsigned long *limit) {
    return PyArg_ParseTuple(arguments, "kk", key, limit);
}

/* A list in static variables. */
static struct entry *g_first, *g_last;
static unsigned long g_length;

static PyObject *list_row(PyObject *module, PyObject *arguments) {
    unsigned long key, limit;
    if (!arguments_of(arguments, &key, &limit))
        return NULL;
    struct entry *entry = new_entry(key);
    if (g_last != NULL)
        g_last->next = entry;
    else
        g_first = entry;
    g_last = entry;
    g_length++;
    if (limit != 0 && g_length > limit) {
        struct entry *old = g_first;
        g_first = old->next;
        free(old);
        g_length--;
    }
    Py_RETURN_NONE;
}

/* A hash table: the static variable points to a table that points to entries. */
#define BUCKETS 512
static struct table {
    struct entry **buckets;
    unsigned long count;
} *g_table;

static PyObject *hash_row(PyObject *module, PyObject *arguments) {
    unsigned long key, limit;
    if (!arguments_of(arguments, &key, &limit))
        return NULL;
    if (g_table == NULL) {
        g_table = malloc(sizeof *g_table);
        g_table->buckets = calloc(BUCKETS, sizeof *g_table->buckets);
        g_table->count = 0;
    }
    struct entry *entry = new_entry(key);
    entry->next = g_table->buckets[key % BUCKETS];
    g_table->buckets[key % BUCKETS] = entry;
    g_table->count++;
    if (limit != 0 && key >= limit) {
        struct entry **at = &g_table->buckets[(key - limit) % BUCKETS];
        while (*at != NULL && (*at)->key != key - limit)
            at = &(*at)->next;
        if (*at != NULL) {
            struct entry *old = *at;
            *at = old->next;
            free(old);
            g_table->count--;
        }
    }
    return PyLong_FromUnsignedLong(g_table->count);
}

/* An array of pointers that is part of the library. */
#define SLOTS (1 << 17)
static void *g_slots[SLOTS];

static PyObject *slot_row(PyObject *module, PyObject *arguments) {
    unsigned long key, limit;
    if (!arguments_of(arguments, &key, &limit))
        return NULL;
    unsigned long slot = key % (limit != 0 ? limit : SLOTS);
    free(g_slots[slot]);
    g_slots[slot] = new_entry(key);
    Py_RETURN_NONE;
}

/* A list of the calling thread. */
static __thread struct entry *t_first, *t_last;
static __thread unsigned long t_length;

static PyObject *thread_row(PyObject *module, PyObject *arguments) {
    unsigned long key, limit;
    if (!arguments_of(arguments, &key, &limit))
        return NULL;
    struct entry *entry = new_entry(key);
    if (t_last != NULL)
        t_last->next = entry;
    else
        t_first = entry;
    t_last = entry;
    t_length++;
    if (limit != 0 && t_length > limit) {
        struct entry *old = t_first;
        t_first = old->next;
        free(old);
        t_length--;
    }
    Py_RETURN_NONE;
}

/* A list that only the stack of this call knows, for as long as the rows come. */
static PyObject *gather(PyObject *module, PyObject *arguments) {
    PyObject *rows;
    unsigned long limit, length = 0;
    if (!PyArg_ParseTuple(arguments, "Ok", &rows, &limit))
        return NULL;
    struct entry *first = NULL, *last = NULL;
    PyObject *row;
    while ((row = PyIter_Next(rows)) != NULL) {
        struct entry *entry = new_entry(PyLong_AsUnsignedLong(row));
        Py_DECREF(row);
        if (last != NULL)
            last->next = entry;
        else
            first = entry;
        last = entry;
        length++;
        if (limit != 0 && length > limit) {
            struct entry *old = first;
            first = old->next;
            free(old);
            length--;
        }
    }
    while (first != NULL) {
        struct entry *old = first;
        first = old->next;
        free(old);
    }
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLong(length);
}

/* References that are counted as they should be, in a static array: Python
   cannot see who holds these objects. */
static PyObject *g_objects[SLOTS];

static PyObject *keep_object(PyObject *module, PyObject *arguments) {
    PyObject *object;
    unsigned long key, limit;
    if (!PyArg_ParseTuple(arguments, "Okk", &object, &key, &limit))
        return NULL;
    unsigned long slot = key % (limit != 0 ? limit : SLOTS);
    Py_INCREF(object);
    Py_XDECREF(g_objects[slot]);
    g_objects[slot] = object;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"list_row", list_row, METH_VARARGS, NULL},
    {"hash_row", hash_row, METH_VARARGS, NULL},
    {"slot_row", slot_row, METH_VARARGS, NULL},
    {"thread_row", thread_row, METH_VARARGS, NULL},
    {"gather", gather, METH_VARARGS, NULL},
    {"keep_object", keep_object, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "store", .m_methods = methods};

PyMODINIT_FUNC PyInit_store(void) {
    return PyModule_Create(&definition);
}
