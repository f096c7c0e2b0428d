/* More blocks at one site than a word of its counters holds, from several threads. */
#include <pthread.h>
#include <stdint.h>

#include "keep.h"

#define THREADS 3
#define BLOCKS 5000000

static void *keep_many(void *arg)
{
    size_t me = (size_t)arg;
    for (size_t i = 0; i < BLOCKS; i++) {
        void *block = malloc(i % 100 + me);
        MUST(block);
        if (i % 1000000 != 0)
            free(block);
        kept_last = block;
    }
    return NULL;
}

/* Some hundreds of them are more bytes than a word holds; nobody touches their pages. */
static void keep_large(void)
{
    for (int i = 0; i < 4000; i++) {
        void *block = malloc((1UL << 30) + i % 2);
        MUST(block);
        if (i % 2000 != 0)
            free(block);
        kept_last = block;
    }
    KEPT(2, 2UL << 30);
}

/* The same by moving them. */
static void *keep_moved(void)
{
    char *block = malloc(1);
    for (int i = 0; i < 4000; i++) {
        block = realloc(block, (1UL << 30) + i % 2 * 4096);
        MUST(block);
    }
    KEPT(1, (1UL << 30) + 4096);
    return block;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, keep_many, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    unsigned long each = BLOCKS / 1000000, bytes = 0;
    for (size_t me = 0; me < THREADS; me++)
        bytes += each * me;
    kept("heap", "keep_many", THREADS * each, bytes);
    keep_large();
    kept_last = keep_moved();
    print_kept();
    return 0;
}
