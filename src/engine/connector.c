#include "engine/connector.h"
#include "engine/connect_failure.h"
#include "engine/connect_sockets.h"
#include "engine/opener.h"
#include "engine/proxy.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PLACES = 64,      /* targets share these by their hash; each place has a fair share */
    OPENERS_KEPT = 32 /* each has an easy handle of some 7 KB */
};

struct connect_attempt {
    struct connector *c;
    struct connect_wait *w;
    struct list node;    /* of c->attempts */
    struct list touched; /* of c->touched */
    struct admit_ticket ticket;
    struct opener *opener; /* NULL: it waits in line */
    struct connect_sockets sockets;
    bool lost_one;            /* libcurl has closed one of its sockets */
    bool denied;              /* an address was not tried, because of the connect rules */
    enum err_kind stopped;    /* it cannot go on, and libcurl does not know; ERR_NONE: it can */
    struct connect_target to; /* its texts stand behind this struct */
    char *line;
};

struct connector {
    struct loop *loop;
    struct poller *poller;
    struct mem *mem;
    struct log *log;
    CURLM *multi;
    struct timer timer; /* libcurl's */
    struct timer late;  /* reports what could not begin */
    struct admit admit;
    struct admit_host places[PLACES];
    struct list attempts, touched, idle /* openers */;
    unsigned openers, idle_count;
    size_t place_limit, held;
};

static void act(struct connector *c, curl_socket_t number, int bits);

static void touch(struct connect_attempt *a)
{
    if (!list_linked(&a->touched))
        list_push_back(&a->c->touched, &a->touched);
}

static void stop(struct connect_attempt *a, enum err_kind kind)
{
    a->stopped = kind;
    touch(a);
}

static void on_ready(struct connect_sockets *s, int number, int bits)
{
    act(CONTAINER_OF(s, struct connect_attempt, sockets)->c, number, bits);
}

static struct connect_attempt *attempt_of(CURL *easy)
{
    char *o = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &o);
    return o ? ((struct opener *)(void *)o)->attempt : NULL;
}

static int on_curl_socket(CURL *easy, curl_socket_t number, int what, void *arg, void *socket_arg)
{
    UNUSED(arg);
    UNUSED(socket_arg);
    struct connect_attempt *a = attempt_of(easy);
    if (!a)
        return 0;
    if (what == CURL_POLL_REMOVE) {
        a->lost_one = true;
        touch(a);
    }
    if (!connect_sockets_watch(&a->sockets, number, what))
        stop(a, ERR_IO);
    return 0;
}

static curl_socket_t on_socket_wanted(void *arg, curlsocktype purpose,
                                      struct curl_sockaddr *address)
{
    UNUSED(purpose);
    struct connect_attempt *a = ((struct opener *)arg)->attempt;
    const struct connect_target *to = &a->to;
    bool chosen = !to->proxy || to->unix_socket || !to->proxy_of_environment;
    /* Here the address is known for good, whatever name or number format led to it. The
     * environment's proxy is not the script's choice. */
    if (chosen && !connect_rules_allow_address(to->rules, &address->addr)) {
        a->denied = true;
        return CURL_SOCKET_BAD;
    }
    touch(a);
    return connect_sockets_open(&a->sockets, address);
}

/* ---- attempts */

/* Gives everything back, and closes what was being opened. */
static void attempt_leave(struct connect_attempt *a)
{
    struct connector *c = a->c;
    struct opener *o = a->opener;
    if (o && o->easy) {
        CURLMcode code = curl_multi_remove_handle(c->multi, o->easy);
        /* Refused only beneath a callback of libcurl. */
        ASSERT(code == CURLM_OK);
    }
    connect_sockets_fini(&a->sockets);
    if (o) {
        opener_settle(o);
        if (c->idle_count >= OPENERS_KEPT)
            opener_fini(o);
        if (o->easy)
            list_push_front(&c->idle, &o->node);
        else
            list_push_back(&c->idle, &o->node);
        c->idle_count++;
    }
    a->opener = NULL;
    admit_leave(&c->admit, &a->ticket);
    list_unlink(&a->node);
    list_unlink(&a->touched);
    a->w->attempt = NULL;
}

static void fail(struct connect_attempt *a, const struct err *err)
{
    struct connect_wait *w = a->w;
    attempt_leave(a);
    mem_free(a->c->mem, a);
    w->fn(w, NULL, err);
}

static void fail_by_curl(struct connect_attempt *a, CURLcode code)
{
    struct connect_failure f = {
        .to = &a->to,
        .easy = a->opener->easy,
        .code = code,
        .words = a->opener->words,
        .os = a->sockets.error,
        .denied = a->denied,
    };
    struct err err;
    connect_failure_set(&f, &err);
    fail(a, &err);
}

static void fail_stopped(struct connect_attempt *a)
{
    struct err err;
    if (a->sockets.error && a->opener && a->opener->easy) {
        fail_by_curl(a, CURLE_COULDNT_CONNECT);
        return;
    }
    err_set(&err, a->stopped,
            a->stopped == ERR_MEMORY ? "no memory for a connection" : "libcurl failed to connect");
    fail(a, &err);
}

static void note_peer(struct connected *got)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    const void *bytes = NULL;
    if (getpeername(got->fd, (struct sockaddr *)&peer, &len) != 0)
        return;
    if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&peer;
        bytes = &in->sin_addr;
        got->peer_port = ntohs(in->sin_port);
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&peer;
        bytes = &in6->sin6_addr;
        got->peer_port = ntohs(in6->sin6_port);
    }
    if (bytes)
        inet_ntop(peer.ss_family, bytes, got->peer, sizeof got->peer);
}

/* Through an HTTPS proxy: the connection stays in the multi. NULL: it is gone. */
static CURL *keep(struct connect_attempt *a)
{
    CURL *easy = a->opener->easy;
    size_t got;
    /* Marks the connection as used; libcurl would close it later as one that is idle. */
    CURLcode code = curl_easy_recv(easy, &got, 0, &got);
    if (code != CURLE_OK && code != CURLE_AGAIN)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, NULL);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    a->opener->easy = NULL;
    a->c->held++;
    return easy;
}

static void succeed(struct connect_attempt *a)
{
    struct connect_wait *w = a->w;
    struct connected got = {.fd = -1};
    curl_socket_t number = CURL_SOCKET_BAD;
    const char *proxy = a->to.unix_socket ? NULL : a->to.proxy;
    bool holds = proxy && *proxy && proxy_kind_of(proxy) == PROXY_HTTPS;
    /* There is none if another attempt began in the same call of libcurl: libcurl then closes idle
     * connections that seem dead. */
    curl_easy_getinfo(a->opener->easy, CURLINFO_ACTIVESOCKET, &number);
    got.fd = connect_sockets_take(&a->sockets, number);
    if (got.fd >= 0 && holds)
        got.held = keep(a);
    if (got.fd < 0 || (holds && !got.held)) {
        if (got.fd >= 0)
            close(got.fd);
        fail_by_curl(a, got.fd < 0 ? CURLE_COULDNT_CONNECT : CURLE_RECV_ERROR);
        return;
    }
    note_peer(&got);
    attempt_leave(a);
    mem_free(a->c->mem, a);
    w->fn(w, &got, NULL);
}

static struct opener *opener_get(struct connector *c)
{
    struct list *node = list_pop_front(&c->idle);
    if (node) {
        c->idle_count--;
        return CONTAINER_OF(node, struct opener, node);
    }
    struct opener *o = mem_alloc(c->mem, sizeof *o);
    if (o)
        opener_init(o, c->openers++);
    return o;
}

/* It has a place. What goes wrong is reported later. */
static void begin(struct connect_attempt *a)
{
    struct connector *c = a->c;
    struct err err;
    enum err_kind kind = ERR_MEMORY;
    struct opener *o = a->opener = opener_get(c);
    if (o) {
        o->attempt = a;
        kind = opener_prepare(o, &a->to, a->line, on_socket_wanted, &err);
    }
    if (kind == ERR_NONE) {
        CURLMcode code = curl_multi_add_handle(c->multi, o->easy);
        kind = code == CURLM_OK              ? ERR_NONE
               : code == CURLM_OUT_OF_MEMORY ? ERR_MEMORY
                                             : ERR_INTERNAL;
    }
    if (kind == ERR_NONE)
        return;
    stop(a, kind);
    loop_timer_start(c->loop, &c->late, loop_now_ns(c->loop));
}

static void pump(struct connector *c)
{
    for (struct admit_ticket *t; (t = admit_next(&c->admit));)
        begin(CONTAINER_OF(t, struct connect_attempt, ticket));
}

/* ---- libcurl at work */

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    UNUSED(multi);
    struct connector *c = arg;
    if (timeout_ms < 0)
        loop_timer_stop(c->loop, &c->timer);
    else
        loop_timer_start(c->loop, &c->timer,
                         loop_now_ns(c->loop) + (uint64_t)timeout_ms * NS_PER_MS);
    return 0;
}

static void read_messages(struct connector *c)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(c->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURLcode code = msg->data.result; /* the message dies with remove_handle */
        struct connect_attempt *a = attempt_of(msg->easy_handle);
        ASSERT(a);
        if (code == CURLE_OK)
            succeed(a);
        else
            fail_by_curl(a, code);
    }
}

/* libcurl (7.88) gives up an address that does not answer or refuses, and then waits for some other
 * event before it tries the next one: for half of the time that is left. */
static void settle(struct connect_attempt *a)
{
    connect_sockets_tidy(&a->sockets);
    if (!a->lost_one)
        return;
    a->lost_one = false;
    curl_easy_pause(a->opener->easy, CURLPAUSE_RECV);
    curl_easy_pause(a->opener->easy, CURLPAUSE_CONT); /* libcurl's timer is due now */
}

static void settle_touched(struct connector *c)
{
    for (struct list *node; (node = list_pop_front(&c->touched));) {
        struct connect_attempt *a = CONTAINER_OF(node, struct connect_attempt, touched);
        if (a->stopped != ERR_NONE)
            fail_stopped(a);
        else
            settle(a);
    }
}

/* The multi is broken (in practice: out of memory). What is in it would hang. */
static void stop_all(struct connector *c, CURLMcode code)
{
    log_write(c->log, LOG_ERROR, "libcurl failed: %s", curl_multi_strerror(code));
    LIST_FOR(node, &c->attempts)
    {
        struct connect_attempt *a = CONTAINER_OF(node, struct connect_attempt, node);
        if (a->opener)
            stop(a, code == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_INTERNAL);
    }
}

static void act(struct connector *c, curl_socket_t number, int bits)
{
    int running;
    CURLMcode code = curl_multi_socket_action(c->multi, number, bits, &running);
    read_messages(c);
    if (code != CURLM_OK)
        stop_all(c, code);
    settle_touched(c);
    pump(c);
}

static void on_timer(struct timer *t)
{
    act(CONTAINER_OF(t, struct connector, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_late(struct timer *t)
{
    struct connector *c = CONTAINER_OF(t, struct connector, late);
    settle_touched(c);
    pump(c);
}

/* ---- the interface */

enum err_kind connector_new(struct connector **out, struct loop *loop, struct poller *poller,
                            struct mem *mem, struct log *log, unsigned max_at_once, struct err *err)
{
    struct connector *c = mem_calloc(mem, sizeof *c);
    CURLM *multi = c ? curl_multi_init() : NULL;
    if (!multi) {
        mem_free(mem, c);
        return err_set(err, ERR_MEMORY, "no memory for connections");
    }
    *c = (struct connector){.loop = loop, .poller = poller, .mem = mem, .log = log, .multi = multi};
    timer_init(&c->timer, on_timer);
    timer_init(&c->late, on_late);
    admit_init(&c->admit, MAX(max_at_once, 1u));
    c->place_limit = MAX(max_at_once / 2, 1u);
    for (size_t i = 0; i < PLACES; i++)
        admit_host_init(&c->places[i]);
    list_init(&c->attempts);
    list_init(&c->touched);
    list_init(&c->idle);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, c);
    /* Otherwise libcurl would close connections that we have not taken yet. */
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1000000L);
    *out = c;
    return ERR_NONE;
}

void connector_free(struct connector *c)
{
    if (!c)
        return;
    LIST_FOR(node, &c->attempts)
    {
        connector_cancel(c, CONTAINER_OF(node, struct connect_attempt, node)->w);
    }
    ASSERT(c->held == 0);
    for (struct list *node; (node = list_pop_front(&c->idle));) {
        struct opener *o = CONTAINER_OF(node, struct opener, node);
        opener_fini(o);
        mem_free(c->mem, o);
    }
    curl_multi_cleanup(c->multi);
    loop_timer_stop(c->loop, &c->timer);
    loop_timer_stop(c->loop, &c->late);
    mem_free(c->mem, c);
}

/* Copies a text to *room and moves that behind it. */
static void copy_text(const char **text, char **room)
{
    if (!*text)
        return;
    size_t size = strlen(*text) + 1;
    memcpy(*room, *text, size);
    *text = *room;
    *room += size;
}

static struct connect_attempt *attempt_new(struct connector *c, const struct connect_target *to)
{
    struct connect_attempt *a;
    struct connect_target copy = *to;
    const char **texts[] = {&copy.host,       &copy.addresses, &copy.unix_socket,
                            &copy.connect_to, &copy.proxy,     &copy.proxy_addresses,
                            &copy.user_agent, &copy.ca_file,   &copy.ca_folder};
    size_t size = sizeof *a + opener_line_size(to);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        size += *texts[i] ? strlen(*texts[i]) + 1 : 0;
    a = mem_alloc(c->mem, size);
    if (!a)
        return NULL;
    char *room = (char *)(a + 1);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        copy_text(texts[i], &room);
    *a = (struct connect_attempt){.c = c, .to = copy, .line = room};
    list_init(&a->touched);
    connect_sockets_init(&a->sockets, c->poller, c->mem, c->log, on_ready);
    admit_ticket_init(&a->ticket);
    list_push_back(&c->attempts, &a->node);
    return a;
}

/* Names what may be dead: the place that the attempt connects to first. */
static struct admit_host *place_of(struct connector *c, const struct connect_target *to)
{
    const char *where = to->unix_socket           ? to->unix_socket
                        : to->proxy && *to->proxy ? to->proxy
                        : to->connect_to          ? to->connect_to
                                                  : to->host;
    uint32_t hash = 2166136261u ^ to->port;
    for (; *where; where++)
        hash = (hash ^ (unsigned char)*where) * 16777619u;
    return &c->places[(hash ^ hash >> 16) % PLACES];
}

enum err_kind connector_start(struct connector *c, struct connect_wait *w,
                              const struct connect_target *target, struct err *err)
{
    ASSERT(!w->attempt);
    if (strlen(target->host) > 300)
        return err_set(err, ERR_INVALID, "url: the host is too long");
    struct connect_attempt *a = attempt_new(c, target);
    if (!a)
        return err_set(err, ERR_MEMORY, "no memory for a connection");
    a->w = w;
    w->attempt = a;
    admit_enter(&c->admit, &a->ticket, place_of(c, target), c->place_limit);
    pump(c);
    return ERR_NONE;
}

void connector_cancel(struct connector *c, struct connect_wait *w)
{
    struct connect_attempt *a = w->attempt;
    if (!a)
        return;
    attempt_leave(a);
    mem_free(c->mem, a);
    /* Others may begin, but only in the next turn: if many are cancelled, each would begin first.
     */
    if (c->admit.waiting > 0)
        loop_timer_start(c->loop, &c->late, loop_now_ns(c->loop));
}

void connector_release(struct connector *c, CURL *held)
{
    ASSERT(c->held > 0);
    c->held--;
    curl_multi_remove_handle(c->multi, held);
    curl_easy_cleanup(held);
}

size_t connector_busy(const struct connector *c)
{
    return c->admit.active + c->admit.waiting;
}

size_t connector_held(const struct connector *c)
{
    return c->held;
}
