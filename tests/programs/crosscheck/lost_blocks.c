/* Blocks of many sizes, whose addresses are nowhere. */
#include "lost.h"

static void lose(void)
{
    for (unsigned size = 1; size < 5000; size += 7)
        memset(malloc(size), 1, size);
    for (unsigned large = 0; large < 3; large++)
        memset(malloc(300000 + large), 1, 300000 + large);
    memset(calloc(17, 33), 1, 17 * 33);
}

int main(void)
{
    lose();
    forget();
    exit(0);
}
