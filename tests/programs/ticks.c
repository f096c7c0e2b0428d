/* A native handler on a small stack of its own, a thousand times a second. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;
static char stack[8192];

static void handle(int number)
{
    (void)number;
    ticks++;
}

void start(void)
{
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action;
    struct itimerval timer = { { 0, 1000 }, { 0, 1000 } };
    memset(&action, 0, sizeof action);
    action.sa_handler = handle;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    sigaltstack(&alternate, 0);
    sigaction(SIGPROF, &action, 0);
    setitimer(ITIMER_PROF, &timer, 0);
}

int seen(void)
{
    return ticks;
}
