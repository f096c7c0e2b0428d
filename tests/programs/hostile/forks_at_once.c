/* Threads that fork at once and allocate along ever new call stacks. The argument is how many times
   each forks. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"

#define THREADS 6

static int most;

static void leaf(void) { free(malloc(100)); }

static void *divide(void *number)
{
    long fine = 0;
    path = (unsigned long)number << 12;
    for (int forks = 0; forks < most; forks++) {
        int status = 0;
        for (int left = 20; left > 0; left--) {
            next(DEPTH);
            path += 2;
        }
        pid_t child = fork();
        if (child == 0) {
            next(DEPTH);
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
