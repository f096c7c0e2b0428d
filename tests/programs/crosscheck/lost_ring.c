/* Rings: each node is referred to, and nobody refers to any of them. */
#include "lost.h"

static void lose(unsigned length)
{
    struct node *first = new_list(length), *last = first;
    while (last->next != NULL)
        last = last->next;
    last->next = first;
}

int main(void)
{
    for (unsigned length = 1; length < 40; length++)
        lose(length);
    forget();
    exit(0);
}
