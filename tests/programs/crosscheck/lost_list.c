/* Lists whose first nodes are lost: the others hang from them. */
#include "lost.h"

static void lose(void)
{
    for (unsigned list = 0; list < 20; list++)
        new_list(100 + list);
}

int main(void)
{
    lose();
    forget();
    exit(0);
}
