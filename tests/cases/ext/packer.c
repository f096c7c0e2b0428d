/* Packs rows in buffers of its own. The functions come in pairs: one forgets a
   buffer, the other, whose name ends with _freed, does the same and does not. */
#include <Python.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static unsigned checksum(const unsigned char *data, size_t size) {
    unsigned sum = 0;
    for (size_t i = 0; i < size; i += 64)
        sum = sum * 31 + data[i];
    return sum;
}

static char *copy_row(PyObject *row, Py_ssize_t *size) {
    char *data;
    if (PyBytes_AsStringAndSize(row, &data, size) < 0)
        return NULL;
    char *copy = malloc((size_t)*size);
    if (copy == NULL)
        return (char *)PyErr_NoMemory();
    return memcpy(copy, data, (size_t)*size);
}

static PyObject *pack_row(PyObject *module, PyObject *row) {
    Py_ssize_t size;
    char *copy = copy_row(row, &size);
    return copy ? PyLong_FromUnsignedLong(checksum((unsigned char *)copy, size)) : NULL;
}

static PyObject *pack_row_freed(PyObject *module, PyObject *row) {
    Py_ssize_t size;
    char *copy = copy_row(row, &size);
    if (copy == NULL)
        return NULL;
    PyObject *sum = PyLong_FromUnsignedLong(checksum((unsigned char *)copy, size));
    free(copy);
    return sum;
}

/* A row that does not begin with a digit is an error. */
static PyObject *parse(PyObject *row, int forget) {
    Py_ssize_t size;
    char *copy = copy_row(row, &size);
    if (copy == NULL)
        return NULL;
    if (copy[0] < '0' || copy[0] > '9') {
        if (!forget)
            free(copy);
        PyErr_SetString(PyExc_ValueError, "a row begins with a digit");
        return NULL;
    }
    PyObject *sum = PyLong_FromUnsignedLong(checksum((unsigned char *)copy, size));
    free(copy);
    return sum;
}

static PyObject *parse_row(PyObject *module, PyObject *row) {
    return parse(row, 1);
}

static PyObject *parse_row_freed(PyObject *module, PyObject *row) {
    return parse(row, 0);
}

static PyObject *name_row(PyObject *module, PyObject *name) {
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    char *copy = strdup(text);
    for (char *at = copy; *at; at++)
        *at &= ~0x20;
    return PyUnicode_FromStringAndSize(copy, 16);
}

static PyObject *name_row_freed(PyObject *module, PyObject *name) {
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    char *copy = strdup(text);
    for (char *at = copy; *at; at++)
        *at &= ~0x20;
    PyObject *result = PyUnicode_FromStringAndSize(copy, 16);
    free(copy);
    return result;
}

/* A chain: a small head that leads to bigger nodes. Who forgets the head forgets all. */
struct node {
    struct node *next;
    char data[2040];
};

struct chain {
    struct node *first;
    size_t length;
};

static struct node *add_node(struct node *next, size_t number) {
    struct node *node = malloc(sizeof *node);
    memset(node->data, (int)number, sizeof node->data);
    node->next = next;
    return node;
}

static struct chain *make_chain(size_t length) {
    struct chain *chain = malloc(sizeof *chain);
    chain->first = NULL;
    chain->length = length;
    for (size_t i = 0; i < length; i++)
        chain->first = add_node(chain->first, i);
    return chain;
}

static unsigned long chain_sum(struct chain *chain) {
    unsigned long sum = chain->length;
    for (struct node *node = chain->first; node; node = node->next)
        sum += (unsigned char)node->data[7];
    return sum;
}

static PyObject *chain_rows(PyObject *module, PyObject *count) {
    struct chain *chain = make_chain(PyLong_AsSize_t(count));
    return PyLong_FromUnsignedLong(chain_sum(chain));
}

static PyObject *chain_rows_freed(PyObject *module, PyObject *count) {
    struct chain *chain = make_chain(PyLong_AsSize_t(count));
    PyObject *sum = PyLong_FromUnsignedLong(chain_sum(chain));
    for (struct node *node = chain->first; node;) {
        struct node *next = node->next;
        free(node);
        node = next;
    }
    free(chain);
    return sum;
}

/* Two halves that know each other: a pointer to each of them exists for ever. */
struct half {
    struct half *other;
    char data[2040];
};

static struct half *make_half(void) {
    struct half *half = malloc(sizeof *half);
    memset(half->data, 1, sizeof half->data);
    return half;
}

static struct half *make_pair(void) {
    struct half *left = make_half(), *right = make_half();
    left->other = right;
    right->other = left;
    return left;
}

static PyObject *pair_row(PyObject *module, PyObject *none) {
    struct half *half = make_pair();
    return PyLong_FromLong(half->data[9] + half->other->data[9]);
}

static PyObject *pair_row_freed(PyObject *module, PyObject *none) {
    struct half *half = make_pair();
    PyObject *sum = PyLong_FromLong(half->data[9] + half->other->data[9]);
    free(half->other);
    free(half);
    return sum;
}

/* A thread that Python does not know packs what it is handed. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static long waiting, packed;
static int forgetful;

static void pack_job(void) {
    unsigned char *work = malloc(4096);
    memset(work, 7, 4096);
    unsigned sum = checksum(work, 4096);
    pthread_mutex_lock(&lock);
    packed += sum != 0;
    pthread_mutex_unlock(&lock);
    if (!forgetful)
        free(work);
}

static void *pack_jobs(void *none) {
    for (;;) {
        pthread_mutex_lock(&lock);
        while (waiting == 0)
            pthread_cond_wait(&more, &lock);
        waiting--;
        pthread_mutex_unlock(&lock);
        pack_job();
    }
    return none;
}

static PyObject *start(int forget) {
    pthread_t thread;
    forgetful = forget;
    if (pthread_create(&thread, NULL, pack_jobs, NULL) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    pthread_detach(thread);
    Py_RETURN_NONE;
}

static PyObject *start_thread(PyObject *module, PyObject *none) {
    return start(1);
}

static PyObject *start_thread_freed(PyObject *module, PyObject *none) {
    return start(0);
}

static PyObject *submit(PyObject *module, PyObject *count) {
    pthread_mutex_lock(&lock);
    waiting += PyLong_AsLong(count);
    long done = packed;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    return PyLong_FromLong(done);
}

static PyMethodDef methods[] = {
    {"pack_row", pack_row, METH_O, NULL},
    {"pack_row_freed", pack_row_freed, METH_O, NULL},
    {"parse_row", parse_row, METH_O, NULL},
    {"parse_row_freed", parse_row_freed, METH_O, NULL},
    {"name_row", name_row, METH_O, NULL},
    {"name_row_freed", name_row_freed, METH_O, NULL},
    {"chain_rows", chain_rows, METH_O, NULL},
    {"chain_rows_freed", chain_rows_freed, METH_O, NULL},
    {"pair_row", pair_row, METH_NOARGS, NULL},
    {"pair_row_freed", pair_row_freed, METH_NOARGS, NULL},
    {"start_thread", start_thread, METH_NOARGS, NULL},
    {"start_thread_freed", start_thread_freed, METH_NOARGS, NULL},
    {"submit", submit, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "packer", .m_methods = methods};

PyMODINIT_FUNC PyInit_packer(void) {
    return PyModule_Create(&definition);
}
