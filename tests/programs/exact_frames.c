/* Frames whose sizes only the program knows, called by functions that look alike. What lies on the
 * stack between them is what earlier calls left there: return addresses of the others, too. */
#include <alloca.h>

#include "keep.h"

static unsigned long random_state = 1;

static unsigned long below(unsigned long end)
{
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (random_state >> 33) % end;
}

static void *leaf(size_t size)
{
    void *block = malloc(size);
    MUST(block);
    return block;
}

static size_t room(void)
{
    /* Few sizes, so that stacks come again; the largest is farther than two bytes tell in words. */
    static const size_t rooms[] = {16, 32, 48, 512, 528, 4096, 70000};
    return below(400) == 0 ? 700000 : rooms[below(sizeof rooms / sizeof *rooms)];
}

static void *through(size_t size, int depth)
{
    size_t bytes = room();
    volatile char *own = alloca(bytes);
    own[0] = own[bytes - 1] = 1;
    void *block = depth > 0 ? through(size, depth - 1) : leaf(size);
    own[0] = 2;
    return block;
}

#define KEEPER(name)                                  \
    static void name(void)                            \
    {                                                 \
        size_t size = below(300);                     \
        void *block = through(size, (int)below(3));   \
        if (below(8) == 0) {                          \
            kept_last = block;                        \
            KEPT(1, size);                            \
        } else {                                      \
            free(block);                              \
        }                                             \
    }

KEEPER(keep_one)
KEEPER(keep_two)
KEEPER(keep_three)

/* Moves the keepers about. */
static void somewhere(void)
{
    static void (*const keepers[])(void) = {keep_one, keep_two, keep_three};
    size_t bytes = room();
    volatile char *own = alloca(bytes);
    own[0] = own[bytes - 1] = 1;
    keepers[below(3)]();
    own[0] = 2;
}

int main(void)
{
    for (int i = 0; i < 100000; i++)
        somewhere();
    print_kept();
    return 0;
}
