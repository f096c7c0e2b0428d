/* Mappings, cut at every place, with known survivors. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "keep.h"

#define PAGE 4096UL

static char *map(size_t len)
{
    char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(at != MAP_FAILED);
    return at;
}

static void keep_map(void)
{
    map(10 * PAGE);
    map(1);
    MUST(munmap(map(3 * PAGE), 3 * PAGE) == 0);
    MAPPED(2, 11 * PAGE);
}

static void keep_map64(void)
{
    char *at = mmap64(NULL, 5 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(at != MAP_FAILED);
    MAPPED(1, 5 * PAGE);
}

static void keep_untouched_map(void)
{
    size_t huge = (size_t)3 << 30;
    char *at = mmap(NULL, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(at != MAP_FAILED);
    MAPPED(1, huge);
}

static void keep_file_map(void)
{
    int fd = memfd_create("file", 0);
    MUST(fd >= 0 && ftruncate(fd, 6 * PAGE) == 0);
    char *at = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *part = mmap64(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 2 * PAGE);
    MUST(at != MAP_FAILED && part != MAP_FAILED);
    close(fd);
    MAPPED(2, 7 * PAGE);
}

static void keep_failed_map(void)
{
    MUST(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    MUST(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED);
    MUST(mmap(NULL, (size_t)1 << 50, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    MAPPED(0, 0);
}

static void keep_cut_at_the_start(void)
{
    MUST(munmap(map(10 * PAGE), 3 * PAGE) == 0);
    MAPPED(1, 7 * PAGE);
}

static void keep_cut_at_the_end(void)
{
    MUST(munmap(map(10 * PAGE) + 6 * PAGE, 4 * PAGE) == 0);
    MAPPED(1, 6 * PAGE);
}

static void keep_cut_in_the_middle(void)
{
    MUST(munmap(map(10 * PAGE) + 4 * PAGE, PAGE) == 0);
    MAPPED(2, 9 * PAGE);
}

static void keep_cut_everywhere(void)
{
    char *at = map(20 * PAGE);
    for (int page = 1; page < 20; page += 2)
        MUST(munmap(at + page * PAGE, PAGE) == 0);
    MUST(munmap(at, 2 * PAGE) == 0);
    MUST(munmap(at + 18 * PAGE, 2 * PAGE) == 0);
    /* 2, 4, … 16 are left. */
    MAPPED(8, 8 * PAGE);
}

static void keep_rounded_unmap(void)
{
    MUST(munmap(map(4 * PAGE), PAGE + 1) == 0);
    MAPPED(1, 2 * PAGE);
}

/* What fails leaves all as it was. */
static void keep_failed_unmap(void)
{
    char *at = map(10 * PAGE);
    MUST(munmap(at + 1, PAGE) == -1);
    MUST(munmap(at + 5 * PAGE, 0) == -1);
    MUST(munmap(at + 100, 20 * PAGE) == -1);
    MAPPED(1, 10 * PAGE);
}

static void keep_failed_unmap_then_all(void)
{
    char *at = map(10 * PAGE);
    MUST(munmap(at + 5 * PAGE, 0) == -1);
    MUST(munmap(at + 1, PAGE) == -1);
    MUST(munmap(at, 10 * PAGE) == 0);
    MAPPED(0, 0);
}

static char *two_from(char *at, size_t len)
{
    char *got = mmap(at, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    MUST(got == at);
    return got;
}

static char *neighbours;

/* Two mappings side by side, by two functions, and one unmap over their border. */
static void keep_left_neighbour(void)
{
    two_from(neighbours, 10 * PAGE);
    MAPPED(1, 7 * PAGE);
}

static void keep_right_neighbour(void)
{
    two_from(neighbours + 10 * PAGE, 10 * PAGE);
    MAPPED(1, 8 * PAGE);
}

static void across_the_border(void)
{
    MUST(munmap(neighbours + 7 * PAGE, 5 * PAGE) == 0);
}

/* The end of one and the whole of the next: the next is gone, the one is not. */
static void keep_left_of_gone(void)
{
    two_from(neighbours, 10 * PAGE);
    MAPPED(1, 9 * PAGE);
}

static void keep_gone(void)
{
    two_from(neighbours + 10 * PAGE, 2 * PAGE);
    MAPPED(0, 0);
}

static void keep_right_of_gone(void)
{
    two_from(neighbours + 12 * PAGE, 8 * PAGE);
    MAPPED(1, 7 * PAGE);
}

static void over_the_gone(void)
{
    MUST(munmap(neighbours + 9 * PAGE, 4 * PAGE) == 0);
}

static void keep_fixed_below(void)
{
    char *at = map(10 * PAGE);
    neighbours = at;
    MAPPED(2, 8 * PAGE);
}

/* A fixed mapping takes the place of what was there. */
static void keep_fixed(void)
{
    two_from(neighbours + 4 * PAGE, 2 * PAGE);
    MAPPED(1, 2 * PAGE);
}

static void keep_fixed_over_itself(void)
{
    char *at = map(3 * PAGE);
    two_from(at, 3 * PAGE);
    two_from(at, 3 * PAGE);
    MAPPED(1, 3 * PAGE);
}

static void keep_remap_grown(void)
{
    char *at = mremap(map(2 * PAGE), 2 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    MUST(at != MAP_FAILED);
    MAPPED(1, 100 * PAGE);
}

static void keep_remap_shrunk(void)
{
    char *at = mremap(map(50 * PAGE), 50 * PAGE, 3 * PAGE, 0);
    MUST(at != MAP_FAILED);
    MAPPED(1, 3 * PAGE);
}

static void keep_remap_of_a_part(void)
{
    char *at = map(10 * PAGE);
    /* Three pages of the middle go elsewhere and become twenty. */
    char *moved = mremap(at + 4 * PAGE, 3 * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
    MUST(moved != MAP_FAILED && moved != at + 4 * PAGE);
    MAPPED(3, 27 * PAGE);
}

static void keep_remap_to(void)
{
    char *from = map(4 * PAGE), *to = map(6 * PAGE);
    MUST(mremap(from, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE);
    MAPPED(3, 6 * PAGE);
}

static void keep_remap_failed(void)
{
    char *at = map(7 * PAGE);
    MUST(mremap(at, 7 * PAGE, (size_t)1 << 50, MREMAP_MAYMOVE) == MAP_FAILED);
    MUST(mremap(at + 1, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
    MAPPED(1, 7 * PAGE);
}

static void keep_remap_leaves(void)
{
#ifdef MREMAP_DONTUNMAP
    char *at = map(4 * PAGE);
    char *moved = mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (moved == MAP_FAILED) {
        MAPPED(1, 4 * PAGE);
        return;
    }
    MAPPED(2, 8 * PAGE);
#else
    MAPPED(0, 0);
#endif
}

static void keep_segments(void)
{
    int id = shmget(IPC_PRIVATE, 5 * PAGE, IPC_CREAT | 0600);
    int small = shmget(IPC_PRIVATE, 100, IPC_CREAT | 0600);
    if (id < 0 || small < 0) {
        MAPPED(0, 0);
        return;
    }
    char *first = shmat(id, NULL, 0), *second = shmat(id, NULL, SHM_RDONLY);
    char *third = shmat(small, NULL, 0);
    MUST(first != (void *)-1 && second != (void *)-1 && third != (void *)-1);
    MUST(shmdt(second) == 0);
    MUST(shmdt(second) == -1);
    MUST(shmctl(id, IPC_RMID, NULL) == 0 && shmctl(small, IPC_RMID, NULL) == 0);
    MAPPED(2, 6 * PAGE);
}

/* What is no segment cannot be detached, and stays. */
static void keep_failed_detach(void)
{
    char *at = map(3 * PAGE);
    MUST(shmdt(at) == -1);
    MUST(shmdt(at + PAGE) == -1);
    MAPPED(1, 3 * PAGE);
}

/* Large blocks are mappings of the C library's own: they are blocks of the heap and no mappings. */
static void keep_heap_beside(void)
{
    MUST(kept_last = malloc(10 << 20));
    KEPT(1, 10 << 20);
    MAPPED(0, 0);
}

int main(void)
{
    keep_map();
    keep_map64();
    keep_untouched_map();
    keep_file_map();
    keep_failed_map();
    keep_cut_at_the_start();
    keep_cut_at_the_end();
    keep_cut_in_the_middle();
    keep_cut_everywhere();
    keep_rounded_unmap();
    keep_failed_unmap();
    keep_failed_unmap_then_all();
    neighbours = map(20 * PAGE);
    keep_left_neighbour();
    keep_right_neighbour();
    across_the_border();
    neighbours = map(20 * PAGE);
    keep_left_of_gone();
    keep_gone();
    keep_right_of_gone();
    over_the_gone();
    keep_fixed_below();
    keep_fixed();
    keep_fixed_over_itself();
    keep_remap_grown();
    keep_remap_shrunk();
    keep_remap_of_a_part();
    keep_remap_to();
    keep_remap_failed();
    keep_remap_leaves();
    keep_segments();
    keep_failed_detach();
    keep_heap_beside();
    print_kept();
    return 0;
}
