/* Allocates along ever new call stacks until a signal handler ends the process, wherever it is.
   The argument is after how many microseconds. */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "paths.h"

static void leaf(void) { free(malloc(100)); }

static void over(int signal)
{
    (void)signal;
    _exit(7);
}

int main(int argc, char **argv)
{
    struct itimerval after = {{0, 0}, {0, atoi(argv[argc - 1])}};
    signal(SIGALRM, over);
    setitimer(ITIMER_REAL, &after, NULL);
    for (;;) {
        next(DEPTH);
        path++;
    }
}
