/* Forks while a signal handler maps memory along ever new call stacks, also in the middle of a fork.
   The argument is how many times. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"

#define HEAP (64 << 20)

static void leaf(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED)
        munmap(page, 4096);
}

static void map(int signal)
{
    (void)signal;
    next(DEPTH);
    path += 2;
}

int main(int argc, char **argv)
{
    int most = atoi(argv[argc - 1]), fine = 0, status;
    struct sigaction action = {.sa_handler = map, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 300}, {0, 300}};
    char *heap = malloc(HEAP);
    /* So that a fork takes its time. */
    memset(heap, 1, HEAP);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int forks = 0; forks < most; forks++) {
        pid_t child = fork();
        if (child == 0)
            _exit(5);
        while (waitpid(child, &status, 0) < 0)
            ;
        fine += WIFEXITED(status) && WEXITSTATUS(status) == 5;
    }
    printf("%d of %d\n", fine, most);
    return 0;
}
