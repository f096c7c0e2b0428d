/* Runs a Python program in an interpreter that is loaded by hand, or linked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LINKED
#include <dlfcn.h>
#else
void Py_InitializeEx(int);
int PyRun_SimpleString(const char *);
int Py_FinalizeEx(void);
#endif

static char *content(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 65536);
    if (!file || !text || !fread(text, 1, 65535, file))
        exit(70);
    fclose(file);
    return text;
}

/* embed PROGRAM ROUNDS [LIBRARY local|global] */
int main(int argc, char **argv)
{
    void (*initialize)(int);
    int (*run)(const char *);
    int (*finalize)(void);
#ifdef LINKED
    (void)argc;
    initialize = Py_InitializeEx;
    run = PyRun_SimpleString;
    finalize = Py_FinalizeEx;
#else
    void *library = dlopen(argv[3], RTLD_NOW | (strcmp(argv[4], "global") ? RTLD_LOCAL : RTLD_GLOBAL));
    if (argc != 5 || !library) {
        fprintf(stderr, "%s\n", dlerror());
        return 71;
    }
    *(void **)&initialize = dlsym(library, "Py_InitializeEx");
    *(void **)&run = dlsym(library, "PyRun_SimpleString");
    *(void **)&finalize = dlsym(library, "Py_FinalizeEx");
#endif
    char *text = content(argv[1]);
    int failed = 0;
    for (int round = atoi(argv[2]); round > 0; round--) {
        initialize(0);
        failed |= run(text);
        failed |= finalize();
    }
    free(text);
    printf("embedded %d\n", failed);
    return failed ? 72 : 5;
}
