/* LD_PRELOAD shim over getaddrinfo, for names that tests need: slow.test hangs 4 s and then is
 * 127.0.0.1, nx.test does not exist, again.test fails for now, lo.test is 127.0.0.1. Every other
 * name goes to the real one. A getaddrinfo that hangs is exactly what cannot be had from a
 * well-behaved machine. (Under AddressSanitizer: ASAN_OPTIONS=verify_asan_link_order=0.) */
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int (*lookup_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    lookup_fn real;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo"); /* the cast that POSIX asks for */
    if (!name)
        return real(name, service, hints, out);
    if (strcmp(name, "nx.test") == 0)
        return EAI_NONAME;
    if (strcmp(name, "again.test") == 0)
        return EAI_AGAIN;
    /* slow.test, slow2.test ...: many at once, too */
    size_t len = strlen(name);
    if (strncmp(name, "slow", 4) == 0 && len > 5 && strcmp(name + len - 5, ".test") == 0) {
        sleep(4);
        name = "127.0.0.1";
    } else if (len >= 7 && strcmp(name + len - 7, "lo.test") == 0) {
        name = "127.0.0.1";
    }
    return real(name, service, hints, out);
}
