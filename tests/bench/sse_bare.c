/* The opponent of the streams' benchmark: a C program on libcurl that reads so many streams at once
 * and does no more than find the events' data lines. Shares no code with the runtime.
 *
 * sse_bare URL STREAMS */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct stream {
    char rest[4096]; /* of a line whose end has not come */
    size_t rest_len;
};

static long events;

static void line(const char *text, size_t len)
{
    events += len > 5 && memcmp(text, "data:", 5) == 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct stream *s = arg;
    size_t len = size * count, left = len;
    for (char *end; (end = memchr(data, '\n', left));
         left -= (size_t)(end + 1 - data), data = end + 1) {
        size_t n = (size_t)(end - data);
        if (s->rest_len > 0 && s->rest_len + n <= sizeof s->rest) {
            memcpy(s->rest + s->rest_len, data, n);
            line(s->rest, s->rest_len + n);
            s->rest_len = 0;
        } else {
            line(data, n);
        }
    }
    if (s->rest_len + left <= sizeof s->rest) {
        memcpy(s->rest + s->rest_len, data, left);
        s->rest_len += left;
    }
    return len;
}

int main(int argc, char **argv)
{
    long streams = argc > 2 ? strtol(argv[2], NULL, 10) : 8;
    CURLM *multi = curl_multi_init();
    for (long i = 0; i < streams; i++) {
        CURL *easy = curl_easy_init();
        struct stream *s = calloc(1, sizeof *s);
        if (!easy || !s)
            return 2;
        curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, s);
        curl_multi_add_handle(multi, easy);
    }
    int running = 1;
    while (running) {
        curl_multi_perform(multi, &running);
        curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double us = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
                (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    printf("events=%ld us_per_event=%.3f peak_kb=%ld\n", events, us / (double)events, u.ru_maxrss);
    return 0;
}
