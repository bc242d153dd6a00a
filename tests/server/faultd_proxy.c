#include "faultd.h"
#include <unistd.h>
void relay_accept(int fd, bool socks, bool auth)
{
    (void)socks;
    (void)auth;
    close(fd);
}
void relay_bury(void)
{
}
void proxy_stats_json(struct bytes *out)
{
    bytes_printf(out, "\"proxy\":{}");
}
void proxy_stats_reset(void)
{
}
