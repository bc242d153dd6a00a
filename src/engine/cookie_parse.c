#include "engine/cookie_parse.h"
#include <string.h>
#include <strings.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static struct cookie_part trim(const char *from, const char *end)
{
    while (from < end && is_blank(*from))
        from++;
    while (end > from && is_blank(end[-1]))
        end--;
    return (struct cookie_part){from, (size_t)(end - from)};
}

static bool is_word(struct cookie_part part, const char *word)
{
    return part.len == strlen(word) && strncasecmp(part.at, word, part.len) == 0;
}

/* ---- dates ---- */

struct date {
    bool has_time, has_day, has_month, has_year;
    int hour, minute, second, day, month, year;
};

static bool is_delimiter(char c)
{
    unsigned char b = (unsigned char)c;
    return b == '\t' || (b >= 0x20 && b <= 0x2f) || (b >= 0x3b && b <= 0x40) ||
           (b >= 0x5b && b <= 0x60) || (b >= 0x7b && b <= 0x7e);
}

/* A number of `least` to `most` digits, with no digit behind it; moves *p past it. */
static bool number(const char **p, const char *end, int least, int most, int *out)
{
    int digits = 0, value = 0;
    const char *at = *p;
    for (; at < end && is_digit(*at) && digits < most; at++, digits++)
        value = value * 10 + (*at - '0');
    if (digits < least || (at < end && is_digit(*at)))
        return false;
    *p = at;
    *out = value;
    return true;
}

static bool take_time(struct date *d, const char *p, const char *end)
{
    int hour, minute, second;
    if (!number(&p, end, 1, 2, &hour) || p == end || *p++ != ':')
        return false;
    if (!number(&p, end, 1, 2, &minute) || p == end || *p++ != ':')
        return false;
    if (!number(&p, end, 1, 2, &second))
        return false;
    d->hour = hour;
    d->minute = minute;
    d->second = second;
    return true;
}

static bool take_month(struct date *d, const char *p, const char *end)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    if (end - p < 3)
        return false;
    for (int i = 0; i < 12; i++) {
        if (strncasecmp(p, names + 3 * (size_t)i, 3) == 0) {
            d->month = i + 1;
            return true;
        }
    }
    return false;
}

/* A token is the first of these that it can be and that was not there yet. */
static void take_token(struct date *d, const char *p, const char *end)
{
    const char *at = p;
    if (!d->has_time && take_time(d, p, end))
        d->has_time = true;
    else if (!d->has_day && number(&at, end, 1, 2, &d->day))
        d->has_day = true;
    else if (!d->has_month && take_month(d, p, end))
        d->has_month = true;
    else if (!d->has_year && number(&at, end, 2, 4, &d->year))
        d->has_year = true;
}

static bool date_exists(const struct date *d)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (!d->has_time || !d->has_day || !d->has_month || !d->has_year)
        return false;
    bool leap = (d->year % 4 == 0 && d->year % 100 != 0) || d->year % 400 == 0;
    int last = days[d->month - 1] + (leap && d->month == 2);
    return d->year >= 1601 && d->day >= 1 && d->day <= last && d->hour <= 23 && d->minute <= 59 &&
           d->second <= 59;
}

/* Years are counted from March, so that a leap day is the last of one. */
static int64_t days_since_1970(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

bool cookie_parse_date(const char *text, size_t len, int64_t *seconds)
{
    struct date d = {0};
    const char *p = text, *end = text + len;
    while (p < end) {
        while (p < end && is_delimiter(*p))
            p++;
        const char *from = p;
        while (p < end && !is_delimiter(*p))
            p++;
        take_token(&d, from, p);
    }
    if (d.has_year && d.year <= 99)
        d.year += d.year >= 70 ? 1900 : 2000;
    if (!date_exists(&d))
        return false;
    *seconds =
        days_since_1970(d.year, d.month, d.day) * 86400 + d.hour * 3600 + d.minute * 60 + d.second;
    return true;
}

/* ---- the field ---- */

/* Far beyond the life of any program, and far below what the clock can count. */
#define AGE_MAX ((int64_t)1 << 50)

/* False: not a number. */
static bool max_age(struct cookie_part value, int64_t now_s, int64_t *end_s)
{
    const char *p = value.at, *end = p + value.len;
    bool negative = p < end && *p == '-';
    int64_t age = 0;
    p += negative;
    if (p == end)
        return false;
    for (; p < end; p++) {
        if (!is_digit(*p))
            return false;
        age = MIN(age * 10 + (*p - '0'), AGE_MAX);
    }
    *end_s = negative ? INT64_MIN : now_s + age;
    return true;
}

/* What Max-Age and Expires say: the first of them counts, whatever their order. */
struct ends {
    bool has_age, has_date;
    int64_t age_s, date_s;
};

static void take_attribute(struct cookie_set *out, struct ends *ends, struct cookie_part name,
                           struct cookie_part value, int64_t now_s)
{
    if (value.len > COOKIE_ATTRIBUTE_MAX)
        return;
    int64_t end_s;
    if (is_word(name, "expires") && cookie_parse_date(value.at, value.len, &end_s)) {
        ends->has_date = true;
        ends->date_s = end_s;
    } else if (is_word(name, "max-age") && max_age(value, now_s, &end_s)) {
        ends->has_age = true;
        ends->age_s = end_s;
    } else if (is_word(name, "domain")) {
        bool dot = value.len > 0 && value.at[0] == '.';
        out->domain = (struct cookie_part){value.at + dot, value.len - dot};
    } else if (is_word(name, "path")) {
        out->path = value;
        if (value.len > 0 && value.at[0] != '/')
            out->path.len = 0;
    } else if (is_word(name, "secure")) {
        out->secure = true;
    }
}

static bool has_control_byte(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

bool cookie_parse(struct cookie_set *out, const char *text, size_t len, int64_t now_s)
{
    const char *end = text + len;
    if (len == 0 || has_control_byte(text, len))
        return false;
    const char *stop = memchr(text, ';', len);
    const char *pair_end = stop ? stop : end;
    const char *equals = memchr(text, '=', (size_t)(pair_end - text));
    if (!equals)
        return false;
    *out = (struct cookie_set){.end_s = COOKIE_NO_END};
    out->name = trim(text, equals);
    out->value = trim(equals + 1, pair_end);
    if (out->name.len == 0 || out->name.len + out->value.len > COOKIE_PAIR_MAX)
        return false;
    struct ends ends = {0};
    while (stop) {
        const char *from = stop + 1;
        stop = memchr(from, ';', (size_t)(end - from));
        const char *to = stop ? stop : end;
        equals = memchr(from, '=', (size_t)(to - from));
        take_attribute(out, &ends, trim(from, equals ? equals : to),
                       trim(equals ? equals + 1 : to, to), now_s);
    }
    if (ends.has_age)
        out->end_s = ends.age_s;
    else if (ends.has_date)
        out->end_s = ends.date_s;
    return true;
}
