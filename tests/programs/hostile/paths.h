/* Ever new call stacks: next(DEPTH) calls leaf() by a way that the bits of `path` tell. */
#define DEPTH 14

static __thread volatile unsigned long path;

static void leaf(void);
static void one(int depth);
static void other(int depth);

static void next(int depth)
{
    if (depth == 0) {
        leaf();
        return;
    }
    if (path >> depth & 1)
        one(depth - 1);
    else
        other(depth - 1);
}

/* After the call there is something left to do, so it is no jump. */
static void one(int depth) { next(depth); path += 0; }
static void other(int depth) { next(depth); path -= 0; }
