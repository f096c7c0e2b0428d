/* Addresses inside of blocks hold them, one behind the end does not. */
#include "lost.h"

static char *volatile inside[100];
static char *volatile last_byte[100];
static char *volatile behind[100];

static void keep(void)
{
    for (unsigned at = 0; at < 100; at++) {
        inside[at] = (char *)malloc(200) + 8 + at;
        last_byte[at] = (char *)malloc(200) + 199;
        /* Allocators round up: no other block begins there. */
        behind[at] = (char *)malloc(4000) + 4004;
    }
}

int main(void)
{
    keep();
    forget();
    exit(0);
}
