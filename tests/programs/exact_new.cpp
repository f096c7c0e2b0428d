// Every form of new and delete, with known survivors.
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "keep.h"

// Unknown to the compiler, which would complain of what can only fail.
static volatile std::size_t too_large = PTRDIFF_MAX - 1;

struct Plain {
    char bytes[40];
};

struct alignas(128) Wide {
    char bytes[256];
};

// An array of these begins with its length.
struct Counted {
    ~Counted() { kept_last = this; }
    char bytes[24];
};

static void keep_new()
{
    for (int i = 0; i < 10; i++) {
        kept_last = new Plain;
        delete new Plain;
    }
    KEPT(10, 400);
}

static void keep_new_array()
{
    kept_last = new char[1001];
    kept_last = new Plain[7];
    kept_last = new Counted[5];
    delete[] new Counted[3];
    KEPT(3, 1001 + 280 + 5 * 24 + 8);
}

static void keep_new_aligned()
{
    kept_last = new Wide;
    kept_last = new Wide[3];
    delete new Wide;
    delete[] new Wide[2];
    KEPT(2, 256 + 768);
}

static void keep_new_nothrow()
{
    kept_last = new (std::nothrow) Plain;
    kept_last = new (std::nothrow) char[99];
    delete new (std::nothrow) Wide;
    MUST((new (std::nothrow) char[too_large]) == nullptr);
    KEPT(2, 139);
}

static void keep_new_thrown()
{
    bool thrown = false;
    try {
        kept_last = ::operator new(too_large);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    MUST(thrown);
    KEPT(0, 0);
}

// What the constructor throws away is freed again.
struct Thrower {
    Thrower() { throw 1; }
    char bytes[100];
};

static void keep_constructor_thrown()
{
    for (int i = 0; i < 5; i++) {
        try {
            kept_last = new Thrower;
        } catch (int) {
        }
    }
    KEPT(0, 0);
}

static void keep_sized_delete()
{
    void *plain = ::operator new(300);
    void *aligned = ::operator new(512, std::align_val_t(64));
    void *stays = ::operator new(301);
    ::operator delete(plain, std::size_t(300));
    ::operator delete(aligned, std::size_t(512), std::align_val_t(64));
    kept_last = stays;
    KEPT(1, 301);
}

// new malloc'd by operator new of zero bytes is one byte in the standard library.
static void keep_new_of_nothing()
{
    kept_last = new char[0];
    KEPT(1, 1);
}

static void keep_containers()
{
    auto *list = new std::vector<int>;
    list->reserve(1000);
    kept_last = list;
    auto *text = new std::string(1000, 'x');
    kept_last = text;
    {
        std::vector<std::string> gone(100, std::string(100, 'y'));
        kept_last = gone.data();
    }
    KEPT(4, sizeof(std::vector<int>) + 4000 + sizeof(std::string) + 1001);
}

int main()
{
    keep_new();
    keep_new_array();
    keep_new_aligned();
    keep_new_nothrow();
    keep_new_thrown();
    keep_constructor_thrown();
    keep_sized_delete();
    keep_new_of_nothing();
    keep_containers();
    print_kept();
}
