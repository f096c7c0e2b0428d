/* Threads that fork at once and allocate along ever new call stacks. The argument is how many times
   each forks. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH 14
#define THREADS 6

static int most;

static void one(unsigned path, int depth);
static void other(unsigned path, int depth);
static volatile int after;

static void next(unsigned path, int depth)
{
    if (depth == 0) {
        free(malloc(100));
        return;
    }
    if (path >> depth & 1)
        one(path, depth - 1);
    else
        other(path, depth - 1);
}

/* After the call there is something left to do, so it is no jump. */
static void one(unsigned path, int depth) { next(path, depth); after = 1; }
static void other(unsigned path, int depth) { next(path, depth); after = 2; }

static void *divide(void *number)
{
    unsigned path = (unsigned)(long)number << 12;
    long fine = 0;
    for (int forks = 0; forks < most; forks++) {
        int status = 0;
        for (int left = 20; left > 0; left--) {
            next(path, DEPTH);
            path += 2;
        }
        pid_t child = fork();
        if (child == 0) {
            next(path, DEPTH);
            _exit(5);
        }
        waitpid(child, &status, 0);
        fine += WIFEXITED(status) && WEXITSTATUS(status) == 5;
    }
    return (void *)fine;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    long fine = 0;
    most = atoi(argv[argc - 1]);
    for (long number = 0; number < THREADS; number++)
        pthread_create(&threads[number], NULL, divide, (void *)number);
    for (int number = 0; number < THREADS; number++) {
        void *one;
        pthread_join(threads[number], &one);
        fine += (long)one;
    }
    printf("%ld of %d\n", fine, THREADS * most);
    return 0;
}
