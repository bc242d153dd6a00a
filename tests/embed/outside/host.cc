// What host.c does, in C++: owners instead of calls that free, functions without names as
// callbacks.
#include <leat.h>

#include <cstdio>
#include <memory>
#include <string_view>

namespace
{

struct freer {
    void operator()(leat_runtime *rt) const
    {
        leat_free(rt);
    }
    void operator()(leat_value *value) const
    {
        leat_value_free(value);
    }
};
template <typename T> using owned = std::unique_ptr<T, freer>;

leat_value *letters(void *, const leat_value *const *args, size_t count, leat_error *err)
{
    size_t len = 0;
    if (count == 1 && leat_to_string(args[0], &len))
        return leat_number(static_cast<double>(len));
    std::snprintf(err->kind, sizeof err->kind, "invalid");
    std::snprintf(err->message, sizeof err->message, "letters takes a word");
    return nullptr;
}

} // namespace

int main()
{
    leat_error err{};
    leat_config config{};
    config.sandbox = LEAT_SANDBOX_RESTRICTED;
    owned<leat_runtime> rt{leat_new(&config, &err)};
    owned<leat_value> word{leat_string("leat", SIZE_MAX)};
    const leat_value *args[] = {word.get()};
    constexpr std::string_view source = "return letters(...)";
    double answer = -1;
    leat_done done = [](void *arg, uint64_t, leat_status status, const leat_value *const *results,
                        size_t count, const leat_error *wrong) {
        if (status == LEAT_OK && count == 1)
            *static_cast<double *>(arg) = leat_to_number(results[0], -1);
        else
            std::fprintf(stderr, "the script: %s\n", wrong ? wrong->message : "no result");
    };
    if (rt && leat_register(rt.get(), "letters", letters, nullptr, &err) &&
        leat_eval(rt.get(), "=host", source.data(), source.size(), args, 1, done, &answer, &err))
        leat_run(rt.get());
    else
        std::fprintf(stderr, "%s: %s\n", err.kind, err.message);
    if (answer < 0)
        return 1;
    std::printf("%g letters\n", answer);
}
