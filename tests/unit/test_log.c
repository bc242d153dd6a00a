#include "test.h"

#include "ground/log.h"
#include "ground/redact.h"
#include "ground/secret.h"

struct seen {
    int count;
    enum log_level level;
    size_t len;
    char line[64];
};

static void on_line(void *arg, enum log_level level, const char *line)
{
    struct seen *seen = arg;
    seen->count++;
    seen->level = level;
    seen->len = strlen(line);
    snprintf(seen->line, sizeof(seen->line), "%s", line);
}

TEST(lines_below_the_level_are_dropped_and_newlines_at_the_end_cut)
{
    struct seen seen = {0};
    struct log log;
    log_init(&log, on_line, &seen, LOG_INFO);
    log_write(&log, LOG_DEBUG, "no");
    CHECK_EQ(seen.count, 0);
    log_write(&log, LOG_WARN, "n=%d\r\n\n", 5);
    CHECK_EQ(seen.count, 1);
    CHECK_EQ(seen.level, LOG_WARN);
    CHECK_STR(seen.line, "n=5");
    log_write(&log, LOG_ERROR, "%10000d", 1);
    CHECK(seen.len > 4000 && seen.len < 4096);
    CHECK_STR(log_level_name(LOG_WARN), "warn");
}

static const char *redacted(const char *url)
{
    static char out[512];
    /* An exact copy without NUL, so that a sanitizer sees any read past the end. */
    size_t len = strlen(url);
    char *copy = malloc(len + (len == 0));
    if (copy == NULL)
        return NULL;
    memcpy(copy, url, len);
    redact_url(out, sizeof(out), copy, len);
    free(copy);
    return out;
}

TEST(a_url_without_secrets_is_shown_as_it_is)
{
    static const char *const urls[] = {
        "",
        "/",
        "?",
        "http://",
        "https://api.example.com/v1/chat?model=x&n=3#top",
        "http://[::1]:8080/a/b?c=d",
        "https://medium.com/@user/post",
        "http://host:8080/@user?q=1",
        "http://[fe80::1%25eth0]/@x",
        "/path/@me?x=1",
        "?author=bob;page=2",
        "//host/path?a=b?c",
        "mailto",
        "http://h/?a=b=c&d&=e&;",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++)
        CHECK_STR(redacted(urls[i]), urls[i]);
}

TEST(userinfo_never_shows)
{
    static const char *const rows[][2] = {
        {"http://user:pw@host/p", "http://***@host/p"},
        {"HTTP://user@host", "HTTP://***@host"},
        {"http://@host", "http://***@host"},
        {"http://u:p@x@host/", "http://***@host/"},
        {"http://u:p@[::1]:80/", "http://***@[::1]:80/"},
        {"//u:p@host/", "//***@host/"},
        {"u:p@host/x", "***@host/x"},
        {"@host/x", "***@host/x"},
        {"http:u:p@host/x", "***@host/x"},
        {"http:/u:p@host/x", "http:/***@host/x"},
        {"http:\\\\u:p@host/x", "http:\\\\***@host/x"},
        {"http:////u:p@host/x", "http:////***@host/x"},
        {" http://u:p@host/x", " http://***@host/x"},
        {"ht tp://u:p@host/x", "ht tp://***@host/x"},
        {"http://u:a/b@host/x", "http://***@host/x"},
        {"http://u:a?b@host/x", "http://***@host/x"},
        {"http://u:a#b@host/x", "http://***@host/x"},
        {"http://a\\@u:pw@host/x", "http://***@host/x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(redacted(rows[i][0]), rows[i][1]);
}

TEST(the_values_of_key_like_parameters_never_show)
{
    static const char *const rows[][2] = {
        {"http://h/?api_key=s3cr3t&n=1", "http://h/?api_key=***&n=1"},
        {"http://h/?n=1&KEY=s", "http://h/?n=1&KEY=***"},
        {"?access_token=s#frag", "?access_token=***#frag"},
        {"/cb#access_token=s&x=1", "/cb#access_token=***&x=1"},
        {"/cb#/route?token=s", "/cb#/route?token=***"},
        {"http://h/a;token=s/b?x=1", "http://h/a;token=***/b?x=1"},
        {"http://h/?a=1;token=s", "http://h/?a=1;token=***"},
        {"http://h/?a=1?token=s", "http://h/?a=1?token=***"},
        {"http://h/?%74oken=s&b=c", "http://h/?%74oken=***&b=c"},
        {"http://h/?auth[token]=s", "http://h/?auth[token]=***"},
        {"http://h/?sig=a/b+c==&se=2", "http://h/?sig=***&se=2"},
        {"http://h/?password=a;b?c&d=e", "http://h/?password=***&d=e"},
        {"http://h/?X-Amz-Credential=s&X-Amz-Signature=t",
         "http://h/?X-Amz-Credential=***&X-Amz-Signature=***"},
        {"http://h/?next=http%3A%2F%2Fu:p%40h", "http://h/?next=***"},
        {"http://h/?key=&x=1", "http://h/?key=&x=1"},
        {"http://h/?a=b\n\x01"
         "c",
         "http://h/?a=b??c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_STR(redacted(rows[i][0]), rows[i][1]);
}

TEST(key_like_pairs_stay_hidden_however_the_url_before_them_is_damaged)
{
    static const char base[] =
        "https://us:CANARY@host:80/p;sid=CANARY?a=1&api_key=CANARY#token=CANARY";
    static const char noise[] = "/?#&;=@:\\%[]\n a";
    for (size_t i = 0; i <= strlen("https://us:"); i++) {
        for (size_t n = 0; n + 1 < sizeof(noise); n++) {
            char url[128];
            snprintf(url, sizeof(url), "%.*s%c%s", (int)i, base, noise[n], base + i);
            char cut[128];
            redact_url(cut, 5, url, strlen(url));
            CHECK(strlen(cut) < 5);
            const char *out = redacted(url);
            /* Only the three pairs are certain: noise may make a path of what was the userinfo. */
            const char *pairs = strstr(out, ";sid");
            CHECK(pairs == NULL || strstr(pairs, "CANARY") == NULL);
        }
    }
}

TEST(header_names_that_hold_secrets_are_known)
{
    static const char *const secret[] = {"Authorization", "Proxy-Authorization",
                                         "Cookie",        "Set-Cookie",
                                         "X-Api-Key",     "api-key",
                                         "X-Auth-User",   "x_auth",
                                         "AUTH",          "refresh_token",
                                         "client_secret", "sig"};
    static const char *const open[] = {"Accept",   "Content-Type", "author", "design", "passage",
                                       "Location", "spin",         "",       "encode"};
    for (size_t i = 0; i < ARRAY_LEN(secret); i++)
        CHECK(secret_name(secret[i], strlen(secret[i])));
    for (size_t i = 0; i < ARRAY_LEN(open); i++)
        CHECK(!secret_name(open[i], strlen(open[i])));
}

TEST_MAIN
