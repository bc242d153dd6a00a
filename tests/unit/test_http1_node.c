/* The reader of HTTP/1 against Node's (llhttp): both get the same random messages, and must agree
 * about what is accepted and about what it says. `differences` lists where they may not, and why.
 *
 *     build/tests/unit/test_http1_node                                  some thousand messages
 *     LEAT_MESSAGES=10000000 LEAT_SEED=7 build/tests/unit/test_http1_node     many others
 *     LEAT_SHOW=1 build/tests/unit/test_http1_node        how often each difference was met
 */
#include "test.h"

#include "http1_random.h"
#include "http1_show.h"
#include <signal.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 50, ANSWER_BYTES = 8192 };

struct node {
    pid_t pid;
    int to;
    FILE *from;
};

static bool start_node(struct node *n)
{
    int to[2], from[2];
    char script[512];
    snprintf(script, sizeof script, "%s/unit/http1_node.js", TESTS_FOLDER);
    if (system("command -v node >/dev/null 2>&1") != 0 || pipe(to) != 0 || pipe(from) != 0)
        return false;
    n->pid = fork();
    if (n->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execlp("node", "node", "--no-deprecation", script, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    n->to = to[1];
    n->from = fdopen(from[0], "rb");
    return n->pid > 0 && n->from != NULL;
}

static void stop_node(struct node *n)
{
    int status = -1;
    close(n->to);
    fclose(n->from);
    waitpid(n->pid, &status, 0);
    CHECK_EQ(status, 0);
}

static bool write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool ask(const struct node *n, const struct random_message *list)
{
    static char batch[BATCH * (sizeof list->bytes + 16)];
    uint32_t len = 0;
    for (int i = 0; i < BATCH; i++) {
        const struct random_message *m = &list[i];
        uint32_t head[3] = {(m->request ? 1u : 0) | (m->to_head ? 2u : 0), (uint32_t)m->cut,
                            (uint32_t)m->len};
        memcpy(batch + len, head, sizeof head);
        memcpy(batch + len + sizeof head, m->bytes, m->len);
        len += (uint32_t)(sizeof head + m->len);
    }
    return write_all(n->to, &len, sizeof len) && write_all(n->to, batch, len);
}

/* What one of the two says of a message: "ok" and the lines of what it has read, or why not. */
struct answer {
    char verdict[128];
    struct http1_show shown;
};

static bool hear(const struct node *n, struct answer *a)
{
    static char text[ANSWER_BYTES];
    uint32_t len;
    if (fread(&len, sizeof len, 1, n->from) != 1 || len >= ANSWER_BYTES ||
        fread(text, 1, len, n->from) != len)
        return false;
    a->shown.len = 0;
    text[len] = '\0';
    if (strncmp(text, "no ", 3) == 0) {
        snprintf(a->verdict, sizeof a->verdict, "%.100s", text + 3);
    } else {
        snprintf(a->verdict, sizeof a->verdict, "ok");
        http1_show_bytes(&a->shown, text + 3, len - 3);
    }
    return true;
}

/* In the words of http1_node.js. */
static void show_head(struct http1_show *s, const struct http1_head *h)
{
    http1_show_text(s, "head 1.%u %u [", h->minor, h->status);
    http1_show_bytes(s, h->word, h->word_len);
    http1_show_text(s, "]");
    if (h->target != NULL) {
        http1_show_text(s, " ");
        http1_show_bytes(s, h->target, h->target_len);
    }
    http1_show_text(s, h->informational ? " interim" : h->keep_alive ? " keep" : "");
    http1_show_fields(s, h);
}

static void answer(const struct random_message *m, struct answer *a)
{
    struct http1_parser p;
    struct http1_event e;
    struct err err = {.kind = ERR_NONE};
    enum http1_result result = HTTP1_MORE;
    const char *in = m->bytes;
    http1_parse_init(&p, m->request ? HTTP1_REQUEST : HTTP1_RESPONSE, NULL);
    p.to_head = m->to_head;
    p.may_upgrade = true;
    a->shown.len = 0;
    a->shown.in_body = false;
    for (int piece = 0; piece < 2 && result == HTTP1_MORE; piece++) {
        size_t len = (size_t)(m->bytes + (piece == 0 ? m->cut : m->len) - in);
        while ((result = http1_parse_next(&p, &in, &len, &e, &err)) == HTTP1_HEAD ||
               result == HTTP1_BODY || result == HTTP1_TRAILERS) {
            if (result == HTTP1_HEAD)
                show_head(&a->shown, &e.head);
            else
                http1_show_event(&a->shown, result, &e);
        }
    }
    if (result == HTTP1_MORE)
        result = http1_parse_end(&p, &err);
    http1_show_end_of_body(&a->shown);
    snprintf(a->verdict, sizeof a->verdict, "%s", result == HTTP1_DONE ? "ok" : err.reason);
}

/* ---- Where the two may differ. */

struct case_of {
    const struct random_message *m;
    const struct answer *ours, *nodes;
};

/* In any case of letters. */
static bool contains(const struct random_message *m, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i + len <= m->len; i++) {
        if (strncasecmp(m->bytes + i, text, len) == 0)
            return true;
    }
    return false;
}

/* A body may have NULs. */
static bool says(const struct answer *a, const char *text)
{
    return a->shown.len != 0 && memmem(a->shown.text, a->shown.len, text, strlen(text)) != NULL;
}

static bool begins(const struct random_message *m, const char *text)
{
    return m->len >= strlen(text) && memcmp(m->bytes, text, strlen(text)) == 0;
}

static bool is_request(const struct case_of *c)
{
    return c->m->request;
}

static bool is_response(const struct case_of *c)
{
    return !c->m->request;
}

static bool has_lone_lf(const struct case_of *c)
{
    for (size_t i = 0; i < c->m->len; i++) {
        if (c->m->bytes[i] == '\n' && (i == 0 || c->m->bytes[i - 1] != '\r'))
            return !c->m->request;
    }
    return false;
}

static bool has_blank_behind_size(const struct case_of *c)
{
    for (size_t i = 1; i < c->m->len; i++) {
        const char *at = c->m->bytes + i;
        if ((*at == ' ' || *at == '\t') && memchr("0123456789abcdefABCDEF \t", at[-1], 24) != NULL)
            return true;
    }
    return false;
}

static bool is_other_version(const struct case_of *c)
{
    return contains(c->m, "HTTP/0.9") || contains(c->m, "HTTP/2.0");
}

static bool is_1_0(const struct case_of *c)
{
    return c->m->request && contains(c->m, " HTTP/1.0\r\n");
}

static bool begins_with_lf(const struct case_of *c)
{
    return c->m->request && (begins(c->m, "\n") || begins(c->m, "\r\n\n"));
}

static bool has_trailers(const struct case_of *c)
{
    return says(c->ours, "\ntrailers {");
}

static bool has_trailers_or_is_response(const struct case_of *c)
{
    return is_response(c) || has_trailers(c);
}

/* Whether all is the same, but only `keeper` says that the connection is kept. */
static bool only_keeps(const struct answer *keeper, const struct answer *closer)
{
    const struct http1_show *keeps = &keeper->shown, *closes = &closer->shown;
    size_t at = 0;
    if (keeps->len != closes->len + 5)
        return false;
    while (at < closes->len && keeps->text[at] == closes->text[at])
        at++;
    return memcmp(keeps->text + at, "keep {", 6) == 0 &&
           memcmp(keeps->text + at + 5, closes->text + at, closes->len - at) == 0;
}

static bool we_keep_without_length(const struct case_of *c)
{
    return (c->m->to_head || contains(c->m, "HTTP/1.1 304")) && only_keeps(c->ours, c->nodes);
}

static bool we_end_after_false_length(const struct case_of *c)
{
    return (contains(c->m, "HTTP/1.1 204") || contains(c->m, "HTTP/1.1 10")) &&
           only_keeps(c->nodes, c->ours);
}

static bool is_below_100(const struct case_of *c)
{
    return contains(c->m, "HTTP/1.1 0") || contains(c->m, "HTTP/1.0 0");
}

static bool has_control_in_reason(const struct case_of *c)
{
    const struct http1_show *s = &c->nodes->shown;
    bool inside = false;
    for (size_t i = 0; i < s->len && !c->m->request; i++) {
        unsigned char byte = (unsigned char)s->text[i];
        if (inside && ((byte < ' ' && byte != '\t') || byte == 0x7f))
            return true;
        inside = (inside && byte != '{') || byte == '[';
    }
    return false;
}

static bool has_cr_cr(const struct case_of *c)
{
    return !c->m->request && contains(c->m, "\r\r");
}

static bool begins_with_cr(const struct case_of *c)
{
    return c->m->request && begins(c->m, "\r");
}

static bool begins_with_line_end(const struct case_of *c)
{
    return !c->m->request && (begins(c->m, "\r") || begins(c->m, "\n") ||
                              contains(c->m, "\r\n\r\n\r") || contains(c->m, "\r\n\r\n\n"));
}

static bool is_1_0_with_close(const struct case_of *c)
{
    return contains(c->m, "HTTP/1.0") && only_keeps(c->nodes, c->ours);
}

static bool is_0_9(const struct case_of *c)
{
    return c->m->request && strstr(c->nodes->shown.text, "head 0.9 ") == c->nodes->shown.text;
}

static bool has_interim(const struct case_of *c)
{
    return says(c->ours, " interim {");
}

static bool has_tab_at_end(const struct case_of *c)
{
    for (size_t i = 0; i + 1 < c->m->len; i++) {
        size_t end = i + 1;
        while (end + 1 < c->m->len && (c->m->bytes[end] == ' ' || c->m->bytes[end] == '\t'))
            end++;
        if (c->m->bytes[i] == '\t' && (c->m->bytes[end] == '\r' || c->m->bytes[end] == '\n'))
            return true;
    }
    return false;
}

static bool has_tab_behind_close(const struct case_of *c)
{
    return (contains(c->m, "close\t") || contains(c->m, "close \t")) &&
           only_keeps(c->nodes, c->ours);
}

static bool has_tab_behind_keep_alive(const struct case_of *c)
{
    return (contains(c->m, "keep-alive\t") || contains(c->m, "keep-alive \t")) &&
           only_keeps(c->ours, c->nodes);
}

static bool has_tab_behind_chunked(const struct case_of *c)
{
    return !c->m->request && (contains(c->m, "chunked\t") || contains(c->m, "chunked \t"));
}

static bool has_proxy_connection(const struct case_of *c)
{
    return contains(c->m, "Proxy-Connection") && only_keeps(c->ours, c->nodes);
}

static bool is_upgrade(const struct case_of *c)
{
    return c->m->request && contains(c->m, "Upgrade");
}

static struct difference {
    const char *ours, *nodes; /* the verdicts (*: any); of Node's, the beginning */
    bool (*when)(const struct case_of *c);
    const char *why;
    long met;
} differences[] = {
    /* What we accept. */
    {"ok", "HPE_CR_EXPECTED", has_lone_lf, "servers end lines with a LF alone", 0},
    {"ok", "HPE_INVALID_HEADER_TOKEN", has_lone_lf, "the same, at an empty line or value", 0},
    {"ok", "HPE_INVALID_STATUS", has_lone_lf, "the same, behind a status", 0},
    {"ok", "HPE_INVALID_TRANSFER_ENCODING: Transfer-Encoding can't be present with Content-Length",
     is_response, "chunked holds, and the connection ends", 0},
    {"ok", "HPE_INVALID_CONTENT_LENGTH: Content-Length can't be present with Transfer-Encoding",
     has_trailers_or_is_response, "the same; in trailers, it means nothing", 0},
    {"ok", "HPE_INVALID_TRANSFER_ENCODING: Invalid `Transfer-Encoding` header value", has_trailers,
     "trailers mean nothing", 0},
    {"ok", "END: it is not complete", has_trailers, "the same", 0},
    {"ok", "END: it is not complete", is_upgrade, "Node leaves the body of an upgrade to others",
     0},
    {"ok", "HPE_UNEXPECTED_CONTENT_LENGTH", is_response, "servers repeat a Content-Length", 0},
    {"ok", "HPE_INVALID_CHUNK_SIZE: Invalid character in chunk size", has_blank_behind_size,
     "servers pad sizes; RFC 9112 7.1.1 allows blanks before an extension", 0},
    {"ok", "HPE_STRICT: Invalid character in chunk extensions", NULL,
     "extensions are dropped, so that their grammar does not matter", 0},
    {"ok", "HPE_STRICT: Invalid quoted-pair in chunk extensions", NULL, "the same", 0},
    {"ok", "HPE_INVALID_CONTENT_LENGTH: Invalid character in Content-Length", has_tab_at_end,
     "RFC 9110 5.6.3: a tab is a blank, too", 0},
    {"ok", "HPE_INVALID_TRANSFER_ENCODING: Request has invalid", has_tab_at_end, "the same", 0},
    {"ok", "ok", has_tab_behind_close, "the same: Node sees no close", 0},
    {"*", "ok", has_tab_behind_chunked, "the same: Node sees no chunks", 0},
    {"ok", "ok", has_tab_behind_keep_alive, "the same: Node sees no keep-alive", 0},
    {"ok", "HPE_CLOSED_CONNECTION", has_interim, "an interim response ends no connection", 0},
    {"ok", "ok", is_1_0_with_close, "close is stronger than keep-alive", 0},
    {"ok", "ok", has_proxy_connection, "Proxy-Connection is no header of HTTP", 0},
    {"ok", "HPE_INVALID_VERSION", is_request, "RFC 9110 2.5: a later HTTP/1.x means HTTP/1.1", 0},
    {"ok", "HPE_INVALID_METHOD", is_request, "methods are for the server to know", 0},
    {"ok", "HPE_INVALID_URL", is_request, "targets are for the server to check", 0},
    {"ok", "ok", we_keep_without_length, "a 304 and a response to HEAD need no length to end", 0},
    {"ok", "ok", we_end_after_false_length, "a body may come behind a 204 that announces one", 0},
    /* What we refuse. */
    {"host", "ok", is_request, "RFC 9112 3.2 wants one Host; Node's server checks it later", 0},
    {"status_line", "ok", is_other_version, "HTTP/0.9 and HTTP/2.0 do not look so", 0},
    {"status_line", "ok", is_below_100, "a status has three digits, of which the first is not 0",
     0},
    {"version", "ok", is_other_version, "the same", 0},
    {"transfer_encoding", "ok", is_response, "Node reads such bodies to the end, as they are", 0},
    {"request_line", "ok", is_request, "HTTP/0.9 is too old", 0},
    {"transfer_encoding", "ok", is_1_0, "RFC 9112 6.1: HTTP/1.0 does not know it", 0},
    {"bare_lf", "ok", begins_with_lf, "in requests each LF follows a CR", 0},
    {"transfer_encoding", "ok", is_request, "codings are tokens, and chunked comes once", 0},
    {"bare_lf", "ok", is_0_9, "HTTP/0.9 is too old", 0},
    {"status_line", "ok", begins_with_line_end, "a response does not begin with an empty line", 0},
    {"nul", "ok", has_control_in_reason, "no control byte may be in a reason phrase", 0},
    {"status_line", "ok", has_control_in_reason, "the same", 0},
    {"content_length", "ok", NULL, "Node reads up to 2^64", 0},
    {"bare_cr", "ok", has_cr_cr, "Node takes CR CR for the end of a status line", 0},
    {"truncated", "ok", has_cr_cr, "the same: the line ends later for us", 0},
    {"bare_cr", "ok", begins_with_cr, "Node skips any CR before a request", 0},
};

static bool same(const struct answer *a, const struct answer *b)
{
    bool accepted = strcmp(a->verdict, "ok") == 0;
    if (accepted != (strcmp(b->verdict, "ok") == 0))
        return false;
    return !accepted || (a->shown.len == b->shown.len &&
                         memcmp(a->shown.text, b->shown.text, a->shown.len) == 0);
}

static struct difference *listed(const struct random_message *m, const struct answer *ours,
                                 const struct answer *nodes)
{
    const struct case_of c = {m, ours, nodes};
    for (size_t i = 0; i < ARRAY_LEN(differences); i++) {
        struct difference *d = &differences[i];
        if ((d->ours[0] == '*' || strcmp(ours->verdict, d->ours) == 0) &&
            strncmp(nodes->verdict, d->nodes, strlen(d->nodes)) == 0 &&
            (d->when == NULL || d->when(&c)))
            return d;
    }
    return NULL;
}

static void print_bytes(const char *title, const char *bytes, size_t len)
{
    printf("  %s\"", title);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\r' || c == '\n' || c == '"' || c == '\\')
            printf("\\%c", c == '\r' ? 'r' : c == '\n' ? 'n' : c);
        else
            printf(c >= ' ' && c < 0x7f ? "%c" : "\\%03o", c);
    }
    printf("\"\n");
}

/* Prints the first message of each kind that is not listed. */
static void complain(const struct random_message *m, const struct answer *ours,
                     const struct answer *nodes)
{
    static char seen[64][300];
    static size_t count;
    char kind[300];
    snprintf(kind, sizeof kind, "%s / %s", ours->verdict, nodes->verdict);
    test_failed = true;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(seen[i], kind) == 0)
            return;
    }
    if (count == ARRAY_LEN(seen))
        return;
    memcpy(seen[count++], kind, sizeof kind);
    printf("  a difference that is not listed: %s (%s%s, cut at %zu):\n", kind,
           m->request ? "a request" : "a response", m->to_head ? " to HEAD" : "", m->cut);
    print_bytes("", m->bytes, m->len);
    print_bytes("ours:   ", ours->shown.text, ours->shown.len);
    print_bytes("Node's: ", nodes->shown.text, nodes->shown.len);
}

static void check(const struct random_message *m, const struct answer *ours,
                  const struct answer *nodes)
{
    if (same(ours, nodes))
        return;
    struct difference *d = listed(m, ours, nodes);
    if (d != NULL)
        d->met++;
    else
        complain(m, ours, nodes);
}

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

static void compare(const struct node *n, long count)
{
    static struct random_message list[BATCH];
    static struct answer ours, nodes;
    uint64_t state = (uint64_t)number("LEAT_SEED", 1);
    for (long done = 0; done < count; done += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            list[i].state = state;
            random_message(&list[i]);
            state = list[i].state;
        }
        REQUIRE(ask(n, list));
        for (int i = 0; i < BATCH; i++) {
            REQUIRE(hear(n, &nodes));
            answer(&list[i], &ours);
            check(&list[i], &ours, &nodes);
        }
    }
    free(ours.shown.text);
    free(nodes.shown.text);
}

TEST(we_and_node_read_the_same)
{
    struct node n;
    long count = number("LEAT_MESSAGES", 5000);
    if (!start_node(&n)) {
        printf("skipped: node is not installed\n");
        return;
    }
    compare(&n, count);
    stop_node(&n);
    printf("  %ld messages\n", count);
    for (size_t i = 0; i < ARRAY_LEN(differences) && getenv("LEAT_SHOW"); i++)
        printf("  %6ld times %s / %s: %s\n", differences[i].met, differences[i].ours,
               differences[i].nodes, differences[i].why);
}

TEST_MAIN
