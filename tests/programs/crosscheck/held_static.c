/* Nothing is lost: a static variable, an array in the library's data and memory
 * that only starts with zeros lead to all of it. */
#include "lost.h"

static struct node *volatile list;
static void *volatile table[300];
static volatile struct {
    long count;
    void **rows;
} grown = {1, NULL};

static void keep(void)
{
    list = new_list(500);
    for (unsigned at = 0; at < 300; at++)
        table[at] = malloc(100 + at);
    grown.rows = calloc(200, sizeof *grown.rows);
    for (unsigned at = 0; at < 200; at++)
        grown.rows[at] = malloc(50);
}

int main(void)
{
    keep();
    forget();
    exit(0);
}
