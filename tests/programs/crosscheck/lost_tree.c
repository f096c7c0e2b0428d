/* A tree that shares some of its leaves, and is lost but for one branch, which a
 * static variable has. */
#include "lost.h"

struct branch {
    struct branch *left, *right;
    char *text;
};

static struct branch *volatile kept;

static struct branch *grow(unsigned depth, char *shared)
{
    struct branch *branch = malloc(sizeof *branch);
    branch->text = depth % 2 ? shared : strcpy(malloc(40), "a leaf of its own");
    branch->left = depth ? grow(depth - 1, shared) : NULL;
    branch->right = depth ? grow(depth - 1, shared) : NULL;
    return branch;
}

static void lose(void)
{
    char *shared = strcpy(malloc(100), "a leaf that all have");
    struct branch *tree = grow(8, shared);
    kept = tree->left->right;
}

int main(void)
{
    lose();
    forget();
    exit(0);
}
