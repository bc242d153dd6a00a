#include "test.h"

#include "ground/mem.h"
#include "ground/reference.h"

static char *resolve(const char *base, const char *reference, char *out, size_t size)
{
    struct mem mem;
    struct buf b;
    mem_init(&mem, 0);
    buf_init(&b, &mem, 4096);
    enum err_kind kind = reference_resolve(&b, base, reference);
    snprintf(out, size, "%s", kind == ERR_NONE ? b.data : err_kind_name(kind));
    buf_fini(&b);
    return out;
}

struct row {
    const char *reference, *url;
};

static void check_rows(const char *base, const struct row *rows, size_t count)
{
    char out[256];
    for (size_t i = 0; i < count; i++)
        CHECK_STR(resolve(base, rows[i].reference, out, sizeof out), rows[i].url);
}

TEST(all_normal_examples_of_rfc_3986_5_4_1)
{
    static const struct row rows[] = {
        {"g:h", "g:h"},
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q#s"},
        {"g#s", "http://a/b/c/g#s"},
        {"g?y#s", "http://a/b/c/g?y#s"},
        {";x", "http://a/b/c/;x"},
        {"g;x", "http://a/b/c/g;x"},
        {"g;x?y#s", "http://a/b/c/g;x?y#s"},
        {"", "http://a/b/c/d;p?q"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../", "http://a/"},
        {"../../g", "http://a/g"},
    };
    check_rows("http://a/b/c/d;p?q", rows, ARRAY_LEN(rows));
}

TEST(all_abnormal_examples_of_rfc_3986_5_4_2)
{
    static const struct row rows[] = {
        {"../../../g", "http://a/g"},
        {"../../../../g", "http://a/g"},
        {"/./g", "http://a/g"},
        {"/../g", "http://a/g"},
        {"g.", "http://a/b/c/g."},
        {".g", "http://a/b/c/.g"},
        {"g..", "http://a/b/c/g.."},
        {"..g", "http://a/b/c/..g"},
        {"./../g", "http://a/b/g"},
        {"./g/.", "http://a/b/c/g/"},
        {"g/./h", "http://a/b/c/g/h"},
        {"g/../h", "http://a/b/c/h"},
        {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
        {"g;x=1/../y", "http://a/b/c/y"},
        {"g?y/./x", "http://a/b/c/g?y/./x"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"g#s/./x", "http://a/b/c/g#s/./x"},
        {"g#s/../x", "http://a/b/c/g#s/../x"},
        {"http:g", "http://a/b/c/g"}, /* as browsers read it */
    };
    check_rows("http://a/b/c/d;p?q", rows, ARRAY_LEN(rows));
}

TEST(bases_and_references_at_the_edges)
{
    static const struct row none[] = {
        {"g", "http://a/g"}, {"", "http://a"},   {"#s", "http://a#s"}, {"?y", "http://a?y"},
        {"..", "http://a/"}, {".", "http://a/"}, {"//", "http://"},
    };
    check_rows("http://a", none, ARRAY_LEN(none));
    static const struct row query[] = {
        {"g", "http://a/g"},
        {"", "http://a/b?q=/x/y"},
        {"?", "http://a/b?"},
        {"#", "http://a/b?q=/x/y#"},
    };
    check_rows("http://a/b?q=/x/y#old", query, ARRAY_LEN(query));
    static const struct row slashes[] = {
        {"..", "http://a/b//"},       {"..//g", "http://a/b///g"},     {"..//..", "http://a/b//"},
        {".//g", "http://a/b//c//g"}, {"/a//b/../c", "http://a/a//c"}, {"../../..", "http://a/"},
    };
    check_rows("http://a/b//c/d", slashes, ARRAY_LEN(slashes));
    static const struct row others[] = {
        {"HTTP:g", "HTTP:g"},
        {"HTTPS:g", "https://a/g"},
        {"https:/g", "https://a/g"},
        {"http://b", "http://b"},
        {"https://b/../c", "https://b/../c"},
        {"1a:b", "https://a/1a:b"},
        {"a-b+c.d:e", "a-b+c.d:e"},
        {":x", "https://a/:x"},
        {"mailto:a@b", "mailto:a@b"},
    };
    check_rows("https://a/x", others, ARRAY_LEN(others));
}

TEST(missing_memory_and_missing_room_are_errors)
{
    struct mem mem;
    struct buf b;
    mem_init(&mem, 0);
    buf_init(&b, &mem, 16);
    CHECK_EQ(reference_resolve(&b, "http://a/b/c/d;p?q", "../a-longer-one"), ERR_TOO_LARGE);
    buf_fini(&b);
}

TEST_MAIN
