/* Allocates along ever new call stacks while a signal handler forks, wherever that is; parent and
   children go on after it. The argument is how many times. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"

static volatile int forks, is_child;

static void leaf(void) { free(malloc(100)); }

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
