#include "lua/lua_trace.h"

#include "ground/redact.h"
#include "ground/secret.h"
#include "lua/lua_aux.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>

enum {
    LISTED = 2000,         /* requests that are listed one by one */
    SLOWEST = 20,          /* the slowest of the other requests */
    FAILED = 20,           /* the first failed ones of the other requests */
    SERIES = 480,          /* time intervals; their length doubles when all are used */
    LATENCIES = 1100,      /* buckets; each is 2 % wider than the previous one */
    STATUSES = 600,        /* a status outside 100 to 599 counts as 0 */
    REASONS = 64,          /* separate reasons for failures; further ones count by kind alone */
    LABEL = 120,           /* bytes of a request's label */
    TRACE_EVENTS = 2000000 /* later events are only counted */
};

#define LATENCY_LEAST 1e-6
#define LATENCY_WIDTH 1.02
#define PIECE_S 0.05
#define TRACE_BUFFER (256u * 1024)

struct listed {
    double start, queued, dns, connect, tls, first_byte, total;
    int status;
    unsigned attempts; /* requests sent on the wire */
    enum err_kind kind;
    char label[LABEL];
};

struct reason {
    enum err_kind kind;
    char detail[24]; /* the expired limit, or the error's detail within its kind; "" for none */
    uint64_t count;
};

struct piece {
    double busy; /* sum of the seconds that requests were in flight */
    uint32_t ended, failed;
};

struct record {
    struct sched_watch watch;
    struct rt *rt;
    uint64_t began_ns;
    FILE *trace;
    uint64_t events, dropped, async_id, flushed_ns;
    uint64_t tasks, requests, ok, cancelled, attempts;
    uint64_t bytes_in, bytes_out;
    uint64_t statuses[STATUSES];
    struct reason reasons[ERR_KIND_COUNT + REASONS]; /* by kind without a detail, then the others */
    size_t details;
    uint64_t latencies[LATENCIES], measured;
    double piece_s;
    struct piece series[SERIES];
    size_t listed, slowest, failed;
    struct listed list[LISTED], slow[SLOWEST], bad[FAILED];
};

/* ---- the trace: JSON in Google's Trace Event Format, which Perfetto reads ---- */

static double us_of(const struct record *r, uint64_t ns)
{
    return ns > r->began_ns ? (double)(ns - r->began_ns) / 1e3 : 0;
}

static void put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < 32 || *p >= 127) /* names need not be UTF-8 */
            fprintf(f, "\\u%04x", *p);
        else
            fputc(*p, f);
    }
    fputc('"', f);
}

/* False: there is no trace, or it is full. */
static bool begin_event(struct record *r, const char *name, const char *kind)
{
    if (!r->trace)
        return false;
    if (r->events >= TRACE_EVENTS || ferror(r->trace)) {
        r->dropped++;
        return false;
    }
    uint64_t now = loop_now_ns(&r->rt->loop);
    if (now - r->flushed_ns > NS_PER_S) { /* a killed run leaves a trace of itself */
        r->flushed_ns = now;
        fflush(r->trace);
    }
    fputs(r->events++ ? ",\n{\"name\":" : "{\"name\":", r->trace);
    put_text(r->trace, name);
    fprintf(r->trace, ",\"cat\":\"%s\"", kind);
    return true;
}

static void put_slice(struct record *r, const char *name, const char *kind, uint64_t task_id,
                      uint64_t from_ns, uint64_t to_ns)
{
    if (begin_event(r, name, kind))
        fprintf(r->trace, ",\"ph\":\"X\",\"pid\":1,\"tid\":%llu,\"ts\":%.3f,\"dur\":%.3f}",
                (unsigned long long)task_id, us_of(r, from_ns),
                us_of(r, to_ns) - us_of(r, from_ns));
}

static void on_waited(struct sched_watch *watch, const struct task *t, uint64_t now_ns)
{
    struct record *r = CONTAINER_OF(watch, struct record, watch);
    put_slice(r, t->wait.ops->name, "wait", t->id, t->wait.since_ns, now_ns);
}

struct name_call {
    struct task *task;
    char text[LABEL];
};

static int take_name(lua_State *L)
{
    struct name_call *call = lua_touserdata(L, 1);
    task_push_name(L, call->task);
    const char *name = lua_tostring(L, -1);
    redact_words(call->text, sizeof call->text, name ? name : "?");
    return 0;
}

static void on_ended(struct sched_watch *watch, struct task *t, uint64_t now_ns)
{
    struct record *r = CONTAINER_OF(watch, struct record, watch);
    r->tasks++;
    if (!r->trace)
        return;
    struct name_call call = {.task = t};
    if (lua_cpcall(r->rt->L, take_name, &call) != 0)
        lua_pop(r->rt->L, 1);
    put_slice(r, call.text, "task", t->id, t->born_ns, now_ns);
    if (begin_event(r, "thread_name", "__metadata")) {
        fprintf(r->trace, ",\"ph\":\"M\",\"pid\":1,\"tid\":%llu,\"args\":{\"name\":",
                (unsigned long long)t->id);
        put_text(r->trace, call.text);
        fputs("}}", r->trace);
    }
}

/* Phases are nested in their request, on a track of its own. The ends are seconds from its start.
 */
static void put_async(struct record *r, const char *name, double from_s, double to_s,
                      const struct listed *x)
{
    const char *marks = "be";
    for (int i = 0; i < 2; i++) {
        if (!begin_event(r, name, "request"))
            return;
        fprintf(r->trace, ",\"ph\":\"%c\",\"pid\":2,\"tid\":0,\"id\":%llu,\"ts\":%.3f", marks[i],
                (unsigned long long)r->async_id, (i == 0 ? from_s : to_s) * 1e6);
        if (x && i == 0)
            fprintf(r->trace, ",\"args\":{\"attempts_on_wire\":%u,\"status\":%d,\"error\":\"%s\"}",
                    x->attempts, x->status, x->kind ? err_kind_name(x->kind) : "");
        fputc('}', r->trace);
    }
}

static void trace_request(struct record *r, const struct listed *x)
{
    if (!r->trace)
        return;
    r->async_id++;
    double from = x->start;
    put_async(r, x->label, from, from + x->queued + x->total, x);
    if (x->queued > 0)
        put_async(r, "queued", from, from + x->queued, NULL);
    from += x->queued;
    const struct {
        const char *name;
        double until;
    } phases[] = {{"dns", x->dns},
                  {"connect", x->connect},
                  {"tls", x->tls},
                  {"first byte", x->first_byte},
                  {x->first_byte > 0 ? "body" : "no answer", x->total}};
    double at = 0;
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        if (phases[i].until > at) {
            put_async(r, phases[i].name, from + at, from + phases[i].until, NULL);
            at = phases[i].until;
        }
    }
}

static bool open_trace(struct record *r, const char *path, struct err *err)
{
    r->trace = fopen(path, "we");
    if (!r->trace) {
        err_set(err, ERR_IO, "cannot open the trace %s: %s", path, strerror(errno));
        return false;
    }
    /* A write blocks the loop until the kernel has taken the data; that is the price of a trace. */
    setvbuf(r->trace, NULL, _IOFBF, TRACE_BUFFER);
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", r->trace);
    if (begin_event(r, "process_name", "__metadata"))
        fputs(",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"tasks\"}}", r->trace);
    if (begin_event(r, "process_name", "__metadata"))
        fputs(",\"ph\":\"M\",\"pid\":2,\"args\":{\"name\":\"requests\"}}", r->trace);
    return true;
}

int trace_close(struct record *r)
{
    if (!r || !r->trace)
        return 0;
    bool failed = ferror(r->trace) != 0;
    fprintf(r->trace, "\n],\"otherData\":{\"dropped_events\":%llu}}\n",
            (unsigned long long)r->dropped);
    int error = fflush(r->trace) != 0 ? errno : failed ? EIO : 0;
    if (fclose(r->trace) != 0 && error == 0)
        error = errno;
    r->trace = NULL;
    return error;
}

/* ---- what is counted ---- */

struct record *trace_new(struct rt *rt, const char *trace_path, struct err *err)
{
    struct record *r = mem_calloc(&rt->mem, sizeof *r);
    if (!r) {
        err_set(err, ERR_MEMORY, "no memory for a record of the run");
        return NULL;
    }
    r->rt = rt;
    r->began_ns = loop_now_ns(&rt->loop);
    r->piece_s = PIECE_S;
    r->watch = (struct sched_watch){.waited = trace_path ? on_waited : NULL, .ended = on_ended};
    if (trace_path && !open_trace(r, trace_path, err)) {
        trace_free(r);
        return NULL;
    }
    rt->record = r;
    rt->sched.observer = &r->watch;
    return r;
}

void trace_free(struct record *r)
{
    if (!r)
        return;
    r->rt->record = NULL;
    r->rt->sched.observer = NULL;
    if (r->trace)
        fclose(r->trace);
    mem_free(&r->rt->mem, r);
}

static struct piece *piece_at(struct record *r, double at_s, size_t *index)
{
    while (at_s >= r->piece_s * SERIES) {
        for (size_t i = 0; i < SERIES / 2; i++) {
            const struct piece *a = &r->series[2 * i], *b = a + 1;
            r->series[i] = (struct piece){.busy = a->busy + b->busy,
                                          .ended = a->ended + b->ended,
                                          .failed = a->failed + b->failed};
        }
        memset(r->series + SERIES / 2, 0, sizeof r->series / 2);
        r->piece_s *= 2;
    }
    size_t i = (size_t)(at_s / r->piece_s);
    *index = i < SERIES ? i : SERIES - 1;
    return &r->series[*index];
}

static void add_to_series(struct record *r, double from_s, double to_s, bool failed)
{
    size_t first, last;
    struct piece *end = piece_at(r, to_s, &last);
    end->ended++;
    end->failed += failed;
    piece_at(r, from_s, &first);
    for (size_t i = first; i <= last; i++) {
        double a = (double)i * r->piece_s, b = a + r->piece_s;
        r->series[i].busy += fmax(0, fmin(b, to_s) - fmax(a, from_s));
    }
}

static void keep_slow(struct record *r, const struct listed *x)
{
    size_t i = r->slowest;
    if (i == SLOWEST && x->total <= r->slow[SLOWEST - 1].total)
        return;
    if (i < SLOWEST)
        r->slowest++;
    else
        i--;
    for (; i > 0 && r->slow[i - 1].total < x->total; i--)
        r->slow[i] = r->slow[i - 1];
    r->slow[i] = *x;
}

static void count_failure(struct record *r, const struct err *err)
{
    const char *detail = err->kind == ERR_TIMEOUT ? err_phase_name(err->phase) : err->reason;
    struct reason *row = &r->reasons[err->kind], *own = r->reasons + ERR_KIND_COUNT;
    row->kind = err->kind;
    if (detail[0]) {
        size_t i = 0;
        while (i < r->details && (own[i].kind != err->kind || strcmp(own[i].detail, detail) != 0))
            i++;
        if (i == r->details && i < REASONS) {
            own[i].kind = err->kind;
            snprintf(own[i].detail, sizeof own[i].detail, "%s", detail);
            r->details++;
        }
        if (i < r->details)
            row = &own[i];
    }
    row->count++;
}

static void name_request(const struct transfer *t, struct listed *x)
{
    char url[1024];
    const char *full = t->result.url ? t->result.url : t->spec.url;
    redact_url(url, sizeof url, full, strlen(full));
    snprintf(x->label, sizeof x->label, "%.16s %.100s", secret_hidden(transfer_method(t)), url);
}

void trace_note_request(struct record *r, const struct transfer *t)
{
    const struct transfer_result *res = &t->result;
    struct listed x = {
        .queued = fmax(0, res->timing.queued),
        .dns = res->timing.dns,
        .connect = res->timing.connect,
        .tls = res->timing.tls,
        .first_byte = res->timing.first_byte,
        .total = fmax(0, res->timing.total),
        .status = res->status,
        .attempts = res->wire_attempts,
        .kind = t->cancelled ? ERR_CANCELLED : res->err.kind,
    };
    double now = us_of(r, loop_now_ns(&r->rt->loop)) / 1e6;
    x.start = fmax(0, now - x.queued - x.total);
    name_request(t, &x);
    r->requests++;
    r->attempts += res->wire_attempts;
    r->bytes_in += res->got_bytes > 0 ? (uint64_t)res->got_bytes : 0;
    r->bytes_out += t->spec.body_len != TRANSFER_LENGTH_UNKNOWN ? t->spec.body_len : 0;
    bool failed = x.kind != ERR_NONE || x.status < 200 || x.status > 299; /* as res.ok says */
    if (x.kind == ERR_CANCELLED)
        r->cancelled++;
    else if (x.kind != ERR_NONE)
        count_failure(r, &res->err);
    else
        r->statuses[x.status >= 100 && x.status < STATUSES ? x.status : 0]++;
    r->ok += !failed;
    if (x.kind == ERR_NONE) {
        double bucket = log(fmax(x.total, LATENCY_LEAST) / LATENCY_LEAST) / log(LATENCY_WIDTH);
        r->latencies[bucket < LATENCIES ? (size_t)bucket : LATENCIES - 1]++;
        r->measured++;
    }
    add_to_series(r, x.start + x.queued, fmax(now, x.start + x.queued), failed);
    if (r->listed < LISTED)
        r->list[r->listed++] = x;
    if (failed && x.kind != ERR_CANCELLED && r->failed < FAILED)
        r->bad[r->failed++] = x;
    keep_slow(r, &x);
    trace_request(r, &x);
}

/* ---- handing it over ---- */

static void put_number(lua_State *L, const char *field, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, field);
}

static void push_listed(lua_State *L, const struct listed *list, size_t n)
{
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        const struct listed *x = &list[i];
        lua_createtable(L, 0, 10);
        put_number(L, "start", x->start);
        put_number(L, "queued", x->queued);
        put_number(L, "dns", x->dns);
        put_number(L, "connect", x->connect);
        put_number(L, "tls", x->tls);
        put_number(L, "first_byte", x->first_byte);
        put_number(L, "total", x->total);
        put_number(L, "status", x->status);
        lua_pushstring(L, x->label);
        lua_setfield(L, -2, "label");
        if (x->kind) {
            lua_pushstring(L, err_kind_name(x->kind));
            lua_setfield(L, -2, "kind");
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_counts(lua_State *L, struct record *r)
{
    lua_newtable(L);
    for (int i = 0; i < STATUSES; i++) {
        if (r->statuses[i] > 0) {
            lua_pushfstring(L, "%d", i);
            lua_pushnumber(L, (lua_Number)r->statuses[i]);
            lua_rawset(L, -3);
        }
    }
    lua_setfield(L, -2, "statuses");
    lua_newtable(L);
    for (size_t i = 0; i < ERR_KIND_COUNT + r->details; i++) {
        const struct reason *row = &r->reasons[i];
        if (row->count == 0)
            continue;
        lua_createtable(L, 0, 3);
        lua_pushstring(L, err_kind_name(row->kind));
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, row->detail);
        lua_setfield(L, -2, "detail");
        put_number(L, "count", (double)row->count);
        lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    }
    lua_setfield(L, -2, "failures");
}

static void push_latencies(lua_State *L, struct record *r)
{
    lua_newtable(L);
    int n = 0;
    for (int i = 0; i < LATENCIES; i++) {
        if (r->latencies[i] == 0)
            continue;
        lua_createtable(L, 2, 0);
        lua_pushnumber(L, LATENCY_LEAST * pow(LATENCY_WIDTH, i + 0.5));
        lua_rawseti(L, -2, 1);
        lua_pushnumber(L, (lua_Number)r->latencies[i]);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "latencies");
}

static void push_series(lua_State *L, struct record *r)
{
    lua_createtable(L, SERIES, 1);
    put_number(L, "width", r->piece_s);
    for (int i = 0; i < SERIES; i++) {
        lua_createtable(L, 0, 3);
        put_number(L, "busy", r->series[i].busy);
        put_number(L, "ended", r->series[i].ended);
        put_number(L, "failed", r->series[i].failed);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "series");
}

static int record_push(lua_State *L, struct record *r)
{
    struct rusage usage;
    luaL_checkstack(L, 8, "record");
    lua_newtable(L);
    put_number(L, "wall", us_of(r, loop_now_ns(&r->rt->loop)) / 1e6);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        put_number(L, "cpu",
                   (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
        put_number(L, "peak_memory", (double)usage.ru_maxrss * 1024);
    }
    put_number(L, "tasks", (double)r->tasks);
    put_number(L, "requests", (double)r->requests);
    put_number(L, "ok", (double)r->ok);
    put_number(L, "cancelled", (double)r->cancelled);
    put_number(L, "attempts", (double)r->attempts);
    put_number(L, "bytes_in", (double)r->bytes_in);
    put_number(L, "bytes_out", (double)r->bytes_out);
    put_number(L, "measured", (double)r->measured);
    push_counts(L, r);
    push_latencies(L, r);
    push_series(L, r);
    push_listed(L, r->list, r->listed);
    lua_setfield(L, -2, "list");
    push_listed(L, r->slow, r->slowest);
    lua_setfield(L, -2, "slowest");
    push_listed(L, r->bad, r->failed);
    lua_setfield(L, -2, "failed");
    return 1;
}

/* data(): the record, or nil. */
static int l_data(lua_State *L)
{
    struct rt *rt = rt_of(L);
    return rt->record ? record_push(L, rt->record) : 0;
}

/* missed(): notes that a stated threshold was missed. */
static int l_missed(lua_State *L)
{
    rt_of(L)->missed++;
    return 0;
}

int lua_open_trace(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"data", l_data}, {"missed", l_missed}, {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    return 1;
}
