/* An allocator that succeeds leaves errno alone, whatever it takes to record the block. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static int wrong;

static void look(const char *what) {
    if (errno != 5) {
        fprintf(stderr, "%s: errno is %d\n", what, errno);
        wrong = 1;
    }
    errno = 5;
}

/* Each depth is a stack of its own. */
__attribute__((noinline)) static void at_depth(int depth) {
    char *volatile blocks[4];
    blocks[0] = malloc(100);
    look("malloc");
    blocks[1] = calloc(10, 20);
    look("calloc");
    blocks[0] = realloc(blocks[0], 5000);
    look("realloc");
    if (posix_memalign((void **)&blocks[2], 64, 300) != 0)
        abort();
    look("posix_memalign");
    blocks[3] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    look("mmap");
    munmap(blocks[3], 4096);
    look("munmap");
    for (int at = 0; at < 3; at++)
        free(blocks[at]);
    look("free");
    if (depth % 2 == 0 && depth > 0)
        at_depth(depth - 1);
    else if (depth > 0)
        at_depth(depth - 1), look("the way back");
}

int main(void) {
    errno = 5;
    at_depth(60);
    return wrong;
}
