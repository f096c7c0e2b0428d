/* What the programs share that are compared with LeakSanitizer: both look at the
 * end of the process for blocks to which no address is left. */
#ifndef LOST_H
#define LOST_H

#include <stdlib.h>
#include <string.h>

/* Forgets what earlier calls left below this one's frame, so that no stale word
 * of the stack leads to a block. */
static void forget(void)
{
    volatile char below[64 << 10];
    for (unsigned at = 0; at < sizeof below; at++)
        below[at] = 0;
}

struct node {
    struct node *next;
    char data[56];
};

static struct node *new_node(struct node *next)
{
    struct node *node = malloc(sizeof *node);
    memset(node, 0x5a, sizeof *node);
    node->next = next;
    return node;
}

/* A list of so many nodes. */
__attribute__((unused)) static struct node *new_list(unsigned length)
{
    struct node *first = NULL;
    while (length-- > 0)
        first = new_node(first);
    return first;
}

#endif
