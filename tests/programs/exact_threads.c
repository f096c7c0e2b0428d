/* More threads than have counters of their own, blocks freed by others than made them, threads by the
 * hundred. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "keep.h"

#define THREADS 24

static void start_all(void *(*work)(void *))
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
}

/* Each its own blocks, all at one site. */
static void *keep_own(void *arg)
{
    size_t me = (size_t)arg;
    for (size_t i = 0; i < 20000; i++) {
        void *block = malloc(i % 100 + me);
        MUST(block);
        if (i % 10 != 0)
            free(block);
        kept_last = block;
    }
    return NULL;
}

static void count_own(void)
{
    unsigned long bytes = 0;
    for (size_t me = 0; me < THREADS; me++)
        for (size_t i = 0; i < 20000; i += 10)
            bytes += i % 100 + me;
    kept("heap", "keep_own", THREADS * 2000, bytes);
}

/* Slots that all threads take from and put into: most blocks are freed or
 * resized by another thread than the one that made them. */
#define SLOTS 4096

static _Atomic(char *) slots[SLOTS];

static uint32_t next(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* The first eight bytes of a block are its length. */
static char *labelled(char *block, size_t size)
{
    MUST(block);
    memcpy(block, &size, sizeof size);
    return block;
}

static void *keep_shared(void *arg)
{
    uint32_t seed = 2463534242u + (uint32_t)(uintptr_t)arg * 7919;
    for (int i = 0; i < 50000; i++) {
        uint32_t dice = next(&seed);
        size_t size = 8 + next(&seed) % (dice % 97 == 0 ? 300000 : 500);
        char *mine = NULL;
        switch (dice % 4) {
        case 0:
        case 1:
            mine = labelled(malloc(size), size);
            break;
        case 2: {
            mine = atomic_exchange(&slots[next(&seed) % SLOTS], NULL);
            mine = labelled(realloc(mine, size), size);
            break;
        }
        }
        free(atomic_exchange(&slots[next(&seed) % SLOTS], mine));
    }
    return NULL;
}

static void count_shared(void)
{
    unsigned long blocks = 0, bytes = 0;
    for (int i = 0; i < SLOTS; i++) {
        char *block = atomic_load(&slots[i]);
        if (block) {
            size_t size;
            memcpy(&size, block, sizeof size);
            blocks++;
            bytes += size;
        }
    }
    kept("heap", "keep_shared", blocks, bytes);
}

/* Made here, freed by the other side. */
static void *handed[THREADS][1000];

static void *keep_made(void *arg)
{
    for (int i = 0; i < 1000; i++)
        MUST(handed[(size_t)arg][i] = malloc(100 + i));
    return NULL;
}

static void *free_made(void *arg)
{
    size_t from = ((size_t)arg + 1) % THREADS;
    for (int i = 0; i < 1000; i += 2)
        free(handed[from][i]);
    return NULL;
}

static void count_made(void)
{
    unsigned long bytes = 0;
    for (int i = 1; i < 1000; i += 2)
        bytes += 100 + i;
    kept("heap", "keep_made", THREADS * 500, THREADS * bytes);
}

/* Threads that are over leave blocks and mappings. */
static void *keep_of_the_dead(void *arg)
{
    void *stays = malloc((size_t)arg + 1);
    void *goes = malloc(1000);
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(stays && goes && mapped != MAP_FAILED);
    free(goes);
    if ((size_t)arg % 2)
        MUST(munmap(mapped, 4096) == 0);
    return stays;
}

static void churn(void)
{
    unsigned long bytes = 0;
    for (size_t i = 0; i < 500; i += 4) {
        pthread_t threads[4];
        for (size_t j = 0; j < 4; j++)
            MUST(pthread_create(&threads[j], NULL, keep_of_the_dead, (void *)(i + j)) == 0);
        for (size_t j = 0; j < 4; j++) {
            void *block;
            MUST(pthread_join(threads[j], &block) == 0);
            if (j == 3)
                free(block);
            else
                bytes += i + j + 1;
        }
    }
    kept("heap", "keep_of_the_dead", 375, bytes);
    kept("mapped", "keep_of_the_dead", 250, 250 * 4096);
}

/* Mappings of all these threads, each cut while the others map. */
static void *keep_mapped(void *arg)
{
    (void)arg;
    for (int i = 0; i < 700; i++) {
        char *at = mmap(NULL, 5 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(at != MAP_FAILED);
        if (i % 10 == 0) {
            MUST(munmap(at + 2 * 4096, 4096) == 0);
            continue;
        }
        MUST(munmap(at, 2 * 4096) == 0);
        MUST(munmap(at + 2 * 4096, 3 * 4096) == 0);
    }
    return NULL;
}

int main(void)
{
    start_all(keep_own);
    count_own();
    start_all(keep_shared);
    count_shared();
    start_all(keep_made);
    start_all(free_made);
    count_made();
    churn();
    start_all(keep_mapped);
    kept("mapped", "keep_mapped", THREADS * 70 * 2, THREADS * 70 * 4 * 4096UL);
    print_kept();
    return 0;
}
