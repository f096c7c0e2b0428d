/* Libraries that come and go at one address. The program loads those that it is given, one after the
   other; each has the same code, but for the size of what it keeps. */
#define _GNU_SOURCE
#include <stdlib.h>

#ifdef SIZE

void *keep(void)
{
    return malloc(SIZE);
}

#else

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

static void *kept[100];

int main(int count, char **paths)
{
    for (int i = 1; i < count; i++) {
        void *library = dlopen(paths[i], RTLD_NOW);
        void *(*keep)(void) = library ? (void *(*)(void))dlsym(library, "keep") : NULL;
        if (!keep)
            return 1;
        printf("%p\n", (void *)keep);
        /* Longer than it takes to be seen. */
        usleep(400000);
        for (int block = 0; block < 100; block++)
            kept[block] = keep();
        dlclose(library);
        usleep(400000);
    }
    return kept[0] == NULL;
}

#endif
