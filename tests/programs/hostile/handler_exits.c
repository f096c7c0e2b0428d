/* Allocates along ever new call stacks until a signal handler ends the process, wherever it is.
   The argument is after how many microseconds. */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define DEPTH 14

static volatile unsigned long path;

static void one(int depth);
static void other(int depth);

static void next(int depth)
{
    if (depth == 0) {
        free(malloc(100));
        return;
    }
    if (path >> depth & 1)
        one(depth - 1);
    else
        other(depth - 1);
}

/* After the call there is something left to do, so it is no jump. */
static void one(int depth) { next(depth); path += 0; }
static void other(int depth) { next(depth); path -= 0; }

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
