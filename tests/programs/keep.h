/* What the exactness programs share: each says on stdout what must survive it.
 *
 *   heap <function> <blocks> <bytes>      blocks that the function keeps
 *   mapped <function> <blocks> <bytes>    pieces of mappings that it keeps
 *
 * A block belongs to the innermost function of the program that is named
 * keep_something. All such functions must announce themselves, with 0 too.
 */
#ifndef KEEP_H
#define KEEP_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    const char *kind;
    const char *function;
    unsigned long blocks;
    unsigned long bytes;
};

static struct kept kept_table[256];
static int kept_count;

/* Adds to what `function` keeps. Not for several threads at once. */
static void kept(const char *kind, const char *function, unsigned long blocks, unsigned long bytes)
{
    for (int i = 0; i < kept_count; i++) {
        if (strcmp(kept_table[i].function, function) == 0 && strcmp(kept_table[i].kind, kind) == 0) {
            kept_table[i].blocks += blocks;
            kept_table[i].bytes += bytes;
            return;
        }
    }
    if (kept_count == 256) {
        fputs("too many functions\n", stderr);
        _Exit(1);
    }
    kept_table[kept_count++] = (struct kept){kind, function, blocks, bytes};
}

#define KEPT(blocks, bytes) kept("heap", __func__, (blocks), (bytes))
#define MAPPED(blocks, bytes) kept("mapped", __func__, (blocks), (bytes))

static void print_kept(void)
{
    for (int i = 0; i < kept_count; i++)
        printf("%s %s %lu %lu\n", kept_table[i].kind, kept_table[i].function, kept_table[i].blocks,
               kept_table[i].bytes);
    fflush(stdout);
}

/* Ends the program with a word unless `condition` holds. */
#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __func__, __LINE__, #condition); \
            _Exit(1);                                                               \
        }                                                                           \
    } while (0)

/* Sizes at the edges of allocators. */
static const size_t SIZES[] = {0, 1, 15, 16, 127, 128, 129, 4095, 4096, 4097, 1 << 20};
#define SIZES_COUNT (sizeof SIZES / sizeof *SIZES)
#define SIZES_SUM (0UL + 1 + 15 + 16 + 127 + 128 + 129 + 4095 + 4096 + 4097 + (1 << 20))

/* Blocks are kept where no compiler can find them unused. */
static void *volatile kept_last;

#endif
