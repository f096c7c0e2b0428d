/* How long malloc and free take, measured from within.
 *
 *   latency pairs THREADS COUNT   percentiles of one free and one malloc, in nanoseconds
 *   latency rate THREADS COUNT    pairs a second of all threads together
 *   latency one THREADS COUNT     the same where all allocate at one place
 *
 * Each thread has 64 live blocks of 16 to 1023 bytes and replaces the oldest
 * COUNT times, but for `one` at a place of its own. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

enum { THREADS = 8, LIVE = 64, FINE = 5, BUCKETS = 64 << FINE };

struct thread {
    pthread_t id;
    int place;
    long count;
    int timed;
    double began, ended;
    uint64_t largest;
    uint64_t buckets[BUCKETS];
};

static struct thread threads[THREADS];
static pthread_barrier_t barrier;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Reads the clock once everything before is done. */
static inline uint64_t ticks(void)
{
    _mm_lfence();
    uint64_t now = __rdtsc();
    _mm_lfence();
    return now;
}

/* 32 buckets to a power of two. */
static unsigned bucket(uint64_t value)
{
    if (value < (1 << FINE))
        return value;
    unsigned power = 63 - __builtin_clzll(value);
    return ((power - FINE + 1) << FINE) + ((value >> (power - FINE)) & ((1 << FINE) - 1));
}

static double middle(unsigned index)
{
    if (index < (1 << FINE))
        return index;
    unsigned power = (index >> FINE) + FINE - 1;
    double low = (double)(1ull << power) * (1 + (double)(index & ((1 << FINE) - 1)) / (1 << FINE));
    return low + (double)(1ull << power) / (2 << FINE);
}

/* The loop, written out once a thread so that each has a stack of its own. */
#define PLACE(number)                                                                     \
    static void __attribute__((noinline)) work##number(struct thread *self)               \
    {                                                                                     \
        void *volatile live[LIVE] = {0};                                                  \
        uint32_t random = 2463534242u + number;                                           \
        for (long i = 0; i < self->count; i++) {                                          \
            random ^= random << 13;                                                       \
            random ^= random >> 17;                                                       \
            random ^= random << 5;                                                        \
            size_t size = 16 + random % 1008;                                             \
            uint64_t begin = self->timed ? ticks() : 0;                                   \
            free(live[i % LIVE]);                                                         \
            live[i % LIVE] = malloc(size);                                                \
            if (self->timed) {                                                            \
                uint64_t took = ticks() - begin;                                          \
                self->buckets[bucket(took)]++;                                            \
                if (took > self->largest)                                                 \
                    self->largest = took;                                                 \
            }                                                                             \
        }                                                                                 \
        for (int i = 0; i < LIVE; i++)                                                    \
            free(live[i]);                                                                \
    }
PLACE(0) PLACE(1) PLACE(2) PLACE(3) PLACE(4) PLACE(5) PLACE(6) PLACE(7)

static void (*const places[THREADS])(struct thread *) = {
    work0, work1, work2, work3, work4, work5, work6, work7,
};

static void *begin(void *argument)
{
    struct thread *self = argument;
    struct thread warm = {.count = 1000};
    places[self->place](&warm);
    pthread_barrier_wait(&barrier);
    self->began = seconds();
    places[self->place](self);
    self->ended = seconds();
    return NULL;
}

int main(int argc, char **argv)
{
    int wanted = argc == 4 ? atoi(argv[2]) : 0;
    long count = argc == 4 ? atol(argv[3]) : 0;
    if (wanted < 1 || wanted > THREADS || count < 1) {
        fprintf(stderr, "usage: latency pairs|rate|one THREADS COUNT\n");
        return 2;
    }
    int timed = strcmp(argv[1], "pairs") == 0, one = strcmp(argv[1], "one") == 0;
    double started = seconds();
    uint64_t first = ticks();
    pthread_barrier_init(&barrier, NULL, wanted);
    for (int i = 0; i < wanted; i++) {
        threads[i].place = one ? 0 : i;
        threads[i].count = count;
        threads[i].timed = timed;
        if (pthread_create(&threads[i].id, NULL, begin, &threads[i]) != 0)
            return 1;
    }
    /* The threads' own clocks: this one may be let run again when they have long ended. */
    double began = 0, ended = 0;
    for (int i = 0; i < wanted; i++) {
        pthread_join(threads[i].id, NULL);
        if (i == 0 || threads[i].began < began)
            began = threads[i].began;
        if (i == 0 || threads[i].ended > ended)
            ended = threads[i].ended;
    }
    double took = ended - began;
    double tick_ns = (seconds() - started) * 1e9 / (double)(ticks() - first);

    if (!timed) {
        printf("{\"pairs_per_second\": %.0f}\n", wanted * (double)count / took);
        return 0;
    }
    static uint64_t sums[BUCKETS];
    uint64_t all = 0, largest = 0;
    for (int i = 0; i < wanted; i++) {
        for (int b = 0; b < BUCKETS; b++) {
            sums[b] += threads[i].buckets[b];
            all += threads[i].buckets[b];
        }
        if (threads[i].largest > largest)
            largest = threads[i].largest;
    }
    static const double wanted_shares[] = {0.5, 0.99, 0.999};
    static const char *const names[] = {"p50", "p99", "p999"};
    uint64_t seen = 0;
    unsigned at = 0;
    printf("{");
    for (int i = 0; i < 3; i++) {
        while (at < BUCKETS - 1 && seen + sums[at] < wanted_shares[i] * all)
            seen += sums[at++];
        printf("\"%s\": %.1f, ", names[i], middle(at) * tick_ns);
    }
    printf("\"max\": %.1f}\n", (double)largest * tick_ns);
    return 0;
}
