/* Forks, keeps blocks at new places in parent and child, and both are killed once they have been
 * written down. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *volatile last;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = -2;
    while (tasks && readdir(tasks))
        count++;
    if (tasks)
        closedir(tasks);
    return count;
}

/* The collector is a thread; it comes back beside a program that allocates. */
static void wait_for_the_collector(void)
{
    double until = now() + 60;
    while (threads() < 2) {
        last = malloc(10);
        free(last);
        if (now() > until) {
            puts("no collector");
            exit(1);
        }
    }
}

static void keep_of_child(void) { last = malloc(1001); }
static void keep_of_parent(void) { last = malloc(1003); }

int main(void)
{
    wait_for_the_collector();
    pid_t child = fork();
    if (child == 0) {
        keep_of_child();
        wait_for_the_collector();
        usleep(500000);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    keep_of_parent();
    wait_for_the_collector();
    usleep(500000);
    kill(getpid(), SIGKILL);
}
