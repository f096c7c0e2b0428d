/* A list that a function's variable leads to, which has not returned when the
 * process ends; a second one was dropped by one that has. */
#include "lost.h"

static void dropped(void)
{
    new_list(70);
}

static void work(struct node *volatile *first)
{
    dropped();
    forget();
    if (*first != NULL)
        exit(0);
}

int main(void)
{
    struct node *volatile first = new_list(300);
    work(&first);
    return 1;
}
