/* What a thread that lives has in its storage is held, and what one had that has
 * ended is lost. */
#include <pthread.h>

#include "lost.h"

static __thread struct node *volatile own;
static pthread_barrier_t ready;

static void *stays(void *unused)
{
    own = new_list(150);
    forget();
    pthread_barrier_wait(&ready);
    for (;;)
        pthread_barrier_wait(&ready);
    return unused;
}

static void *ends(void *unused)
{
    own = new_list(90);
    return unused;
}

int main(void)
{
    pthread_t one, two;
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&two, NULL, ends, NULL);
    pthread_join(two, NULL);
    pthread_create(&one, NULL, stays, NULL);
    pthread_barrier_wait(&ready);
    forget();
    exit(0);
}
