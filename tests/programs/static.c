/* A program that no library can be preloaded into. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    char *block = malloc(100);
    snprintf(block, 100, "static");
    puts(block);
    return 2;
}
