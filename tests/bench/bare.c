/* The opponent of the benchmark: the least that a C program on libcurl can do for the same work,
 * with the settings that measured best (one multi, an epoll set in which sockets stay registered,
 * reused easy handles, the certificates of SSL_CERT_FILE read once). Shares no code with the
 * runtime.
 *
 * bare URL COUNT CONCURRENCY */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MODEL "gpt-4o-mini"

struct slot {
    CURL *easy;
    char request[512];
    char reply[4096];
    size_t reply_len;
};

static struct {
    CURLM *multi;
    int epoll_fd;
    int64_t deadline_ns; /* curl's timer; -1: none */
    unsigned char registered[65536];
    long started, done, wanted, failed, concurrency;
    size_t content_bytes;
    double first_ms, warm_us; /* warm_us: CPU time when the connections are made */
} bare = {.deadline_ns = -1};

static int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double cpu_us(struct rusage *used)
{
    getrusage(RUSAGE_SELF, used);
    return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1e6 +
           (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
}

/* Milliseconds since exec: the kernel notes the start in ticks of 10 ms, too coarse, so the caller
 * may hand its own CLOCK_BOOTTIME in nanoseconds over in BENCH_START_NS. */
static double since_start_ms(void)
{
    const char *start = getenv("BENCH_START_NS");
    if (start)
        return (double)(now_ns(CLOCK_BOOTTIME) - strtoll(start, NULL, 10)) / 1e6;
    char stat[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    if (!f)
        return -1;
    size_t n = fread(stat, 1, sizeof stat - 1, f);
    fclose(f);
    stat[n] = '\0';
    char *p = strrchr(stat, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    double ticks = p ? strtod(p, NULL) : 0;
    return (double)now_ns(CLOCK_BOOTTIME) / 1e6 - ticks * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct slot *s = arg;
    size_t len = size * count;
    if (len > sizeof s->reply - 1 - s->reply_len)
        return 0;
    memcpy(s->reply + s->reply_len, data, len);
    s->reply_len += len;
    s->reply[s->reply_len] = '\0';
    return len;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    (void)easy;
    (void)arg;
    (void)socket_arg;
    if (fd >= (int)sizeof bare.registered || what == CURL_POLL_REMOVE)
        return 0; /* stays registered; close() takes it out */
    unsigned char bits = (unsigned char)what;
    if (bare.registered[fd] == bits)
        return 0;
    struct epoll_event ev = {.data.fd = fd};
    ev.events = (bits & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
                (bits & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
    if (epoll_ctl(bare.epoll_fd, bare.registered[fd] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) != 0)
        epoll_ctl(bare.epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    bare.registered[fd] = bits;
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    (void)arg;
    bare.deadline_ns = ms < 0 ? -1 : now_ns(CLOCK_MONOTONIC) + ms * 1000000;
    return 0;
}

static void start(struct slot *s)
{
    long i = ++bare.started;
    int n = snprintf(s->request, sizeof s->request,
                     "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a "
                     "helpful assistant. Answer in one sentence.\"},{\"role\":\"user\",\"content\":"
                     "\"Explain in one sentence what %ld is\"}],\"temperature\":0.7,"
                     "\"max_tokens\":64,\"stream\":false,\"user\":\"bench\"}",
                     MODEL, i);
    s->reply_len = 0;
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE, (long)n);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, s->request);
    curl_multi_add_handle(bare.multi, s->easy);
}

static void finish(CURL *easy, CURLcode code)
{
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct slot *s = (struct slot *)(void *)private;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(bare.multi, easy);
    if (bare.done++ == 0)
        bare.first_ms = since_start_ms();
    if (bare.done == 2 * bare.concurrency)
        bare.warm_us = cpu_us(&(struct rusage){0});
    const char *content =
        code == CURLE_OK && status == 200 ? strstr(s->reply, "\"content\"") : NULL;
    if (content)
        bare.content_bytes += strcspn(content, "}");
    else
        bare.failed++;
    if (bare.started < bare.wanted)
        start(s);
}

static void act(curl_socket_t fd, int bits)
{
    int running, left;
    if (curl_multi_socket_action(bare.multi, fd, bits, &running) != CURLM_OK)
        abort();
    for (CURLMsg *m; (m = curl_multi_info_read(bare.multi, &left));) {
        if (m->msg == CURLMSG_DONE)
            finish(m->easy_handle, m->data.result);
    }
}

static void turn(void)
{
    struct epoll_event events[256];
    int timeout = -1;
    if (bare.deadline_ns >= 0) {
        int64_t left = bare.deadline_ns - now_ns(CLOCK_MONOTONIC);
        timeout = left <= 0 ? 0 : (int)(left / 1000000 + 1);
    }
    int n = epoll_wait(bare.epoll_fd, events, 256, timeout);
    for (int i = 0; i < n; i++) {
        int bits = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        act(events[i].data.fd, bits);
    }
    if (bare.deadline_ns >= 0 && now_ns(CLOCK_MONOTONIC) >= bare.deadline_ns) {
        bare.deadline_ns = -1;
        act(CURL_SOCKET_TIMEOUT, 0);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: bare URL COUNT CONCURRENCY\n");
        return 2;
    }
    long concurrency = bare.concurrency = strtol(argv[3], NULL, 10);
    bare.wanted = strtol(argv[2], NULL, 10);
    curl_global_init(CURL_GLOBAL_ALL);
    bare.multi = curl_multi_init();
    bare.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct slot *slots = calloc((size_t)concurrency, sizeof *slots);
    CURLU *url = curl_url();
    if (!slots || !url || !bare.multi || bare.epoll_fd < 0 ||
        curl_url_set(url, CURLUPART_URL, argv[1], 0) != CURLUE_OK)
        return 1;
    curl_multi_setopt(bare.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(bare.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(bare.multi, CURLMOPT_MAXCONNECTS, concurrency);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Authorization: Bearer sk-bench");
    int64_t began = now_ns(CLOCK_MONOTONIC);
    for (long i = 0; i < concurrency && i < bare.wanted; i++) {
        struct slot *s = &slots[i];
        s->easy = curl_easy_init();
        curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
        curl_easy_setopt(s->easy, CURLOPT_CURLU, url);
        curl_easy_setopt(s->easy, CURLOPT_PROXY, "");
        curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(s->easy, CURLOPT_CAPATH, NULL); /* else libcurl keeps no store */
        if (getenv("SSL_CERT_FILE"))
            curl_easy_setopt(s->easy, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
        curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
        start(s);
    }
    while (bare.done < bare.wanted)
        turn();
    double wall = (double)(now_ns(CLOCK_MONOTONIC) - began) / 1e9;
    struct rusage used;
    double all_us = cpu_us(&used), kept = (double)(bare.done - 2 * concurrency);
    printf("requests=%ld failed=%ld wall_s=%.3f cpu_us_per_request=%.2f warm_us=%.2f "
           "peak_rss_kb=%ld first_ms=%.1f\n",
           bare.done, bare.failed, wall, all_us / (double)bare.done,
           kept > 0 ? (all_us - bare.warm_us) / kept : 0, used.ru_maxrss, bare.first_ms);
    for (long i = 0; i < concurrency; i++)
        curl_easy_cleanup(slots[i].easy);
    curl_multi_cleanup(bare.multi);
    curl_slist_free_all(headers);
    curl_url_cleanup(url);
    free(slots);
    return bare.failed != 0;
}
