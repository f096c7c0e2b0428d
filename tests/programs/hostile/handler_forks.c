/* Allocates along ever new call stacks while a signal handler forks, wherever that is; parent and
   children go on after it. The argument is how many times. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH 14

static volatile unsigned long path;
static volatile int forks, is_child;

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

static void divide(int signal)
{
    (void)signal;
    pid_t child = fork();
    if (child == 0)
        is_child = 1;
    else if (child > 0)
        forks++;
}

int main(int argc, char **argv)
{
    int most = atoi(argv[argc - 1]), fine = 0, status;
    struct sigaction action = {.sa_handler = divide, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 3100}, {0, 3100}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (forks < most && !is_child) {
        next(DEPTH);
        path++;
    }
    if (is_child) {
        /* (A child has no timer.) */
        for (int left = 200; left > 0; left--) {
            next(DEPTH);
            path++;
        }
        return 5;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    while (wait(&status) > 0)
        fine += WIFEXITED(status) && WEXITSTATUS(status) == 5;
    printf("%d of %d\n", fine, forks);
    return 0;
}
