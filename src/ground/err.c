#include "ground/err.h"

#include <stdarg.h>
#include <string.h>

static const char *const kind_names[ERR_KIND_COUNT] = {
    [ERR_NONE] = "",
    [ERR_TIMEOUT] = "timeout",
    [ERR_CONNECT] = "connect",
    [ERR_DNS] = "dns",
    [ERR_TLS] = "tls",
    [ERR_CLOSED] = "closed",
    [ERR_PROTOCOL] = "protocol",
    [ERR_HTTP] = "http",
    [ERR_TOO_LARGE] = "too_large",
    [ERR_CANCELLED] = "cancelled",
    [ERR_CIRCUIT_OPEN] = "circuit_open",
    [ERR_RATE_LIMITED] = "rate_limited",
    [ERR_BUDGET] = "budget",
    [ERR_INVALID] = "invalid",
    [ERR_IO] = "io",
    [ERR_MEMORY] = "memory",
    [ERR_DENIED] = "denied",
    [ERR_SCRIPT] = "script",
    [ERR_RAISED] = "raised",
    [ERR_INTERNAL] = "internal",
};

static const char *const phase_names[PHASE_COUNT] = {
    [PHASE_NONE] = "",           [PHASE_QUEUE] = "queue", [PHASE_DNS] = "dns",
    [PHASE_CONNECT] = "connect", [PHASE_TLS] = "tls",     [PHASE_FIRST_BYTE] = "first_byte",
    [PHASE_IDLE] = "idle",       [PHASE_TOTAL] = "total",
};

const char *err_kind_name(enum err_kind kind)
{
    return (size_t)kind < ARRAY_LEN(kind_names) ? kind_names[kind] : "internal";
}

const char *err_phase_name(enum err_phase phase)
{
    return (size_t)phase < ARRAY_LEN(phase_names) ? phase_names[phase] : "";
}

enum err_kind err_kind_from_name(const char *name)
{
    for (size_t i = ERR_NONE + 1; i < ARRAY_LEN(kind_names); i++) {
        if (strcmp(kind_names[i], name) == 0)
            return (enum err_kind)i;
    }
    return ERR_KIND_COUNT;
}

void err_clear(struct err *e)
{
    *e = (struct err){.kind = ERR_NONE};
}

/* Cutting a text must not leave half of a UTF-8 character at its end: encoders would refuse it. */
static void drop_half_character(char *s)
{
    size_t len = strlen(s);
    size_t tail = 0;
    while (tail < len && tail < 3 && ((unsigned char)s[len - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail == len)
        return;
    unsigned char lead = (unsigned char)s[len - 1 - tail];
    size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (want > tail)
        s[len - 1 - tail] = '\0';
}

enum err_kind err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
    if (e == NULL)
        return kind;
    /* Formatted into a copy: an argument may point to the message that is replaced here. */
    char message[sizeof(e->message)];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    if (len < 0)
        message[0] = '\0';
    else if ((size_t)len >= sizeof(message))
        drop_half_character(message);
    err_clear(e);
    e->kind = kind;
    memcpy(e->message, message, sizeof(message));
    return kind;
}

enum err_kind err_reason(struct err *e, const char *reason)
{
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    return e->kind;
}
