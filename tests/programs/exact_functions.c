/* Every function of the C library that allocates or frees, with known survivors. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <unistd.h>

#include "keep.h"

/* Unknown to the compiler, which would complain of what can only fail. */
static volatile size_t too_large = SIZE_MAX, half = PTRDIFF_MAX, square = (size_t)1 << 33;

#define EACH_SIZE(size) \
    for (size_t i_ = 0, size = SIZES[0]; i_ < SIZES_COUNT; i_++, size = SIZES[i_ % SIZES_COUNT])

static void keep_malloc(void)
{
    EACH_SIZE(size) {
        MUST(kept_last = malloc(size));
        free(malloc(size));
    }
    KEPT(SIZES_COUNT, SIZES_SUM);
}

static void keep_calloc(void)
{
    EACH_SIZE(size) {
        MUST(kept_last = calloc(3, size));
        MUST(kept_last = calloc(size, 1));
        free(calloc(1, size));
    }
    KEPT(2 * SIZES_COUNT, 4 * SIZES_SUM);
}

static void keep_calloc_overflow(void)
{
    MUST(calloc(square, square) == NULL && errno == ENOMEM);
    MUST(calloc(too_large, 2) == NULL);
    KEPT(0, 0);
}

static void keep_too_large(void)
{
    MUST(malloc(too_large) == NULL);
    MUST(malloc(half) == NULL);
    MUST(aligned_alloc(64, too_large - 64) == NULL);
    void *out = NULL;
    MUST(posix_memalign(&out, 64, too_large - 128) == ENOMEM);
    MUST(posix_memalign(&out, 3, 100) == EINVAL);
    KEPT(0, 0);
}

/* Each byte of it is promised and none is touched. */
static void keep_untouched(void)
{
    size_t huge = (size_t)3 << 30;
    void *block = malloc(huge);
    MUST(block);
    void *zeroed = calloc(1, huge);
    MUST(zeroed);
    free(zeroed);
    KEPT(1, huge);
    kept_last = block;
}

static void keep_realloc_of_null(void)
{
    EACH_SIZE(size)
        MUST(kept_last = realloc(NULL, size));
    KEPT(SIZES_COUNT, SIZES_SUM);
}

/* A block belongs to who resized it last. */
static void *first(size_t size)
{
    void *block = malloc(size);
    MUST(block);
    return block;
}

static void keep_realloc_grown(void)
{
    EACH_SIZE(size)
        MUST(kept_last = realloc(first(size), size + 1000));
    KEPT(SIZES_COUNT, SIZES_SUM + 1000 * SIZES_COUNT);
}

static void keep_realloc_shrunk(void)
{
    EACH_SIZE(size)
        MUST(kept_last = realloc(first(size + 5000), size + 1));
    KEPT(SIZES_COUNT, SIZES_SUM + SIZES_COUNT);
}

static void keep_realloc_in_steps(void)
{
    void *block = NULL;
    for (size_t size = 1; size <= 3 << 20; size += size / 3 + 1)
        MUST(block = realloc(block, size));
    for (size_t size = 3 << 20; size > 77; size -= size / 3 + 1)
        MUST(block = realloc(block, size));
    MUST(block = realloc(block, 77));
    kept_last = block;
    KEPT(1, 77);
}

/* A resize that fails leaves the block where it was, and whose it was. */
static void keep_realloc_failed(void)
{
    void *block = malloc(1234);
    MUST(block);
    MUST(realloc(block, half) == NULL);
    MUST(realloc(block, too_large) == NULL);
    kept_last = block;
    void *other = malloc(4321);
    MUST(other);
    MUST(realloc(other, half) == NULL);
    free(other);
    KEPT(1, 1234);
}

static void keep_realloc_to_nothing(void)
{
    EACH_SIZE(size)
        MUST(realloc(first(size), 0) == NULL);
    KEPT(0, 0);
}

static void keep_reallocarray(void)
{
    MUST(kept_last = reallocarray(NULL, 10, 100));
    MUST(kept_last = reallocarray(first(50), 7, 1000));
    MUST(kept_last = reallocarray(first(50000), 7, 100));
    MUST(reallocarray(first(50), 0, 100) == NULL);
    KEPT(3, 1000 + 7000 + 700);
}

static void keep_reallocarray_overflow(void)
{
    void *block = malloc(555);
    MUST(block);
    MUST(reallocarray(block, too_large / 2, 3) == NULL && errno == ENOMEM);
    MUST(reallocarray(block, square, square) == NULL);
    MUST(reallocarray(block, half, 1) == NULL);
    MUST(reallocarray(NULL, too_large, 2) == NULL);
    kept_last = block;
    KEPT(1, 555);
}

static void keep_posix_memalign(void)
{
    unsigned long blocks = 0, bytes = 0;
    for (size_t alignment = sizeof(void *); alignment <= 1 << 16; alignment *= 2) {
        EACH_SIZE(size) {
            void *block;
            MUST(posix_memalign(&block, alignment, size) == 0);
            MUST(((uintptr_t)block & (alignment - 1)) == 0);
            if (alignment % 3 == 1) {
                free(block);
                continue;
            }
            blocks++;
            bytes += size;
        }
    }
    KEPT(blocks, bytes);
}

static void keep_aligned_alloc(void)
{
    MUST(kept_last = aligned_alloc(16, 16));
    MUST(kept_last = aligned_alloc(64, 640));
    MUST(kept_last = aligned_alloc(4096, 1 << 20));
    free(aligned_alloc(64, 64));
    KEPT(3, 16 + 640 + (1 << 20));
}

static void keep_memalign(void)
{
    MUST(kept_last = memalign(256, 1001));
    MUST(kept_last = memalign(8, 9));
    free(memalign(1 << 20, 33));
    KEPT(2, 1010);
}

/* As asked for, not as rounded. */
static void keep_valloc(void)
{
    MUST(kept_last = valloc(1001));
    MUST(kept_last = valloc(8192));
    free(valloc(1));
    KEPT(2, 9193);
}

static void keep_pvalloc(void)
{
    MUST(kept_last = pvalloc(1001));
    MUST(kept_last = pvalloc(8192));
    free(pvalloc(1));
    KEPT(2, 9193);
}

/* C23's functions need not be in the C library, but they are in the shim. */
static void keep_sized_frees(void)
{
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    MUST(free_sized && free_aligned_sized);
    for (int i = 0; i < 100; i++) {
        void *plain = malloc(100 + i);
        void *aligned = aligned_alloc(64, 640);
        void *stays = malloc(7);
        MUST(plain && aligned && stays);
        free_sized(plain, 100 + i);
        free_aligned_sized(aligned, 64, 640);
        kept_last = stays;
    }
    free_sized(NULL, 0);
    free_aligned_sized(NULL, 64, 0);
    KEPT(100, 700);
}

static void keep_usable_size(void)
{
    char *block = malloc(100);
    MUST(block);
    /* All that it says may be used may be. */
    memset(block, 7, malloc_usable_size(block));
    kept_last = block;
    KEPT(1, 100);
}

static void keep_freed_elsewhere(void)
{
    for (int i = 0; i < 1000; i++)
        free(first(i));
    free(NULL);
    KEPT(0, 0);
}

/* The same place again and again: one site, many blocks. */
static void keep_many(void)
{
    void **list = calloc(100000, sizeof *list);
    MUST(list);
    for (size_t i = 0; i < 100000; i++)
        MUST(list[i] = malloc(i % 300));
    unsigned long blocks = 1, bytes = 100000 * sizeof *list;
    for (size_t i = 0; i < 100000; i++) {
        if (i % 7 != 0) {
            free(list[i]);
            continue;
        }
        blocks++;
        bytes += i % 300;
    }
    kept_last = list;
    KEPT(blocks, bytes);
}

int main(void)
{
    keep_malloc();
    keep_calloc();
    keep_calloc_overflow();
    keep_too_large();
    keep_untouched();
    keep_realloc_of_null();
    keep_realloc_grown();
    keep_realloc_shrunk();
    keep_realloc_in_steps();
    keep_realloc_failed();
    keep_realloc_to_nothing();
    keep_reallocarray();
    keep_reallocarray_overflow();
    keep_posix_memalign();
    keep_aligned_alloc();
    keep_memalign();
    keep_valloc();
    keep_pvalloc();
    keep_sized_frees();
    keep_usable_size();
    keep_freed_elsewhere();
    keep_many();
    print_kept();
    return 0;
}
