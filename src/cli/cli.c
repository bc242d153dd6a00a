/* The leat command: parses the options and returns the exit status. The rest is behind leat.h. */
#include "cli/cli_alloc.h"
#include "cli/cli_outputs.h"
#include "cli/cli_signal.h"
#include "cli/repl.h"
#include "ground/base.h"
#include "ground/secret.h"
#include "host/runtime_guard.h"
#include "host/runtime_waits.h"
#include "leat.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <luajit.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include <zlib.h>

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_SIGPIPE = 141 };

static const char usage_text[] =
    "usage: leat [options] script.lua [args]    run a script\n"
    "       leat [options] -e 'code' [args]     run one line of Lua\n"
    "       leat [options] - [args]             run a script from standard input\n"
    "       leat [options] [repl]               open a prompt, to try an API line by line\n"
    "       leat [options] -i script.lua [args] run a script, then open the prompt\n"
    "       leat batch IN OUT [options]         send rows of a file to an API; can be resumed\n"
    "       leat mock [options]                 run an OpenAI-compatible server on loopback\n"
    "       leat help [name]                    describe a function, for example: leat help "
    "gather\n"
    "\n"
    "options:\n"
    "  --virtual-time      the clock jumps to the next timer instead of waiting; no sockets\n"
    "  --allow-connect R   allow connections only to R: public, 10.0.0.0/8, *.example.com\n"
    "  --network-threads N use N more threads for the network; default 0, at most 16\n"
    "  --time-limit S      stop a task that computes for S seconds without a wait\n"
    "  --memory-limit N    limit the memory of Lua and Leat's buffers: 64M, 1G, or bytes\n"
    "  --sandbox           run the script without files, processes, ffi and C modules\n"
    "  --seed N            make the random numbers repeatable\n"
    "  --trace F.json      write what ran when, for https://ui.perfetto.dev\n"
    "  --report F.html     write a page about the run: waterfall, latency, concurrency, errors\n"
    "  --stats[=F]         write figures of the run as JSON, to standard error or to F\n"
    "  -q, -v              fewer or more messages on standard error; -v also names tasks that\n"
    "                      have waited for long\n"
    "  --version           show the versions of this program and of its libraries\n"
    "  -h, --help          show this text; see also `leat batch --help`, `leat mock --help`\n"
    "\n"
    "examples:\n"
    "  leat -e 'print(request(\"http://127.0.0.1:8080/\").status)'\n"
    "  leat mock --port 8080 --latency 0.5-2 --rpm 600\n"
    "  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 leat scripts/main_job.lua\n"
    "  leat batch questions.jsonl answers.jsonl --model gpt-4o-mini --rpm 500\n"
    "\n"
    "exit status: 0 success; 1 the script failed; 2 wrong usage; 3 a threshold of\n"
    "             stats:check was missed; 4 some rows of a batch, or all items of a pipeline,\n"
    "             failed; 129, 130 and 143 ended by a signal\n";

struct options {
    bool virtual_time, quiet, verbose, run_word;
    uint64_t seed;
    const char *allow_connect; /* NULL: everything */
    const char *code;          /* -e */
    const char *script;        /* a path, or "-" */
    char *text;                /* the script, if it was read from standard input */
    size_t text_len;
    const char *const *args; /* arguments of the script, ended by NULL */
    struct see see;
    const char *command; /* a Lua module of Leat with a main function */
    const char *title;   /* title of its report */
    unsigned time_limit_ms, network_threads;
    size_t memory_limit;
    bool sandbox;
    bool repl, then_repl; /* open the prompt; the same after a script or -e */
};

static int complain(const char *what, const char *word)
{
    fprintf(stderr, "leat: %s%s%s%s (see leat --help)\n", what, word ? " '" : "",
            word ? secret_hidden(word) : "", word ? "'" : "");
    return EXIT_USAGE;
}

static int print_version(void)
{
    const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
    printf("leat %s\n", leat_version());
    printf("%s, libuv %s, libcurl %s (%s, nghttp2 %s), zlib %s, %s", LUAJIT_VERSION,
           uv_version_string(), curl->version, curl->ssl_version ? curl->ssl_version : "no TLS",
           curl->nghttp2_version ? curl->nghttp2_version : "none", zlibVersion(),
           OpenSSL_version(OPENSSL_VERSION));
    printf(", lua-cjson " LEAT_CJSON_VERSION "\n");
    return 0;
}

static void write_line(void *arg, enum leat_log_level level, const char *line)
{
    UNUSED(arg);
    static const char *const names[] = {"debug", "info", "warning", "error"};
    fprintf(stderr, "leat: %s: %s\n", names[level], line);
}

/* Parses "1048576", "64M" or "1.5G". Returns 0 for another text, and for less than 1 MiB. */
static size_t bytes_of(const char *text)
{
    char *end = NULL;
    double n = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : 0;
    static const char units[] = "KMG";
    const char *unit = end && *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit) {
        for (const char *u = units; u <= unit; u++)
            n *= 1024;
        end++;
    }
    return end && !*end && n >= 1 << 20 && n <= 1e15 ? (size_t)n : 0;
}

/* Parses `leat help [name ...]`. */
static int parse_help(struct options *o, const char *const *names)
{
    o->command = "cli.help";
    o->title = "leat help";
    o->args = names;
    if (names[0] && (strcmp(names[0], "-h") == 0 || strcmp(names[0], "--help") == 0))
        o->args++;
    if (!o->args[0])
        fputs(usage_text, stdout);
    return -1;
}

/* Fills *o. Returns -1 to go on, else the exit status. */
static int parse(int argc, const char *const *argv, struct options *o)
{
    int i = 1, taken;
    for (; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0) {
            fputs(usage_text, stdout);
            return 0;
        } else if (strcmp(a, "--version") == 0) {
            return print_version();
        } else if (strcmp(a, "--virtual-time") == 0) {
            o->virtual_time = true;
        } else if (strcmp(a, "--seed") == 0) {
            char *end = NULL;
            const char *n = i + 1 < argc ? argv[++i] : "";
            errno = 0;
            o->seed = strtoull(n, &end, 10);
            if (!n[0] || *end || n[0] == '-' || errno)
                return complain("--seed takes a whole number from 0, got", n);
            o->seed += o->seed == 0; /* 0 means "none" below */
        } else if (strcmp(a, "--allow-connect") == 0) {
            if (i + 1 >= argc)
                return complain("--allow-connect takes rules such as public,*.example.com", NULL);
            o->allow_connect = argv[++i];
        } else if ((taken = cli_outputs_option(&o->see, argc, argv, &i)) != 0) {
            if (taken < 0)
                return complain("a file name is missing after", a);
        } else if (strcmp(a, "--network-threads") == 0) {
            char *end = NULL;
            const char *n = i + 1 < argc ? argv[++i] : "";
            unsigned long threads = strtoul(n, &end, 10);
            if (n[0] < '0' || n[0] > '9' || *end || threads > 16)
                return complain("--network-threads takes a number from 0 to 16, got", n);
            o->network_threads = (unsigned)threads;
        } else if (strcmp(a, "--sandbox") == 0) {
            o->sandbox = true;
        } else if (strcmp(a, "--time-limit") == 0) {
            char *end = NULL;
            const char *n = i + 1 < argc ? argv[++i] : "";
            double seconds = strtod(n, &end);
            if (!n[0] || *end || !(seconds >= 0.001 && seconds <= 1e6))
                return complain("--time-limit takes seconds from 0.001, got", n);
            o->time_limit_ms = (unsigned)(seconds * 1000);
        } else if (strcmp(a, "--memory-limit") == 0) {
            const char *n = i + 1 < argc ? argv[++i] : "";
            o->memory_limit = bytes_of(n);
            if (o->memory_limit == 0)
                return complain("--memory-limit takes bytes, or 64M or 1G, from 1M, got", n);
        } else if (strcmp(a, "-q") == 0) {
            o->quiet = true;
        } else if (strcmp(a, "-v") == 0) {
            o->verbose = true;
        } else if (strcmp(a, "-e") == 0) {
            if (i + 1 >= argc)
                return complain("-e requires a line of Lua", NULL);
            o->code = argv[++i];
            i++;
            break;
        } else if (strcmp(a, "-i") == 0) {
            o->then_repl = true;
        } else if (a[0] == '-' && a[1] != '\0') {
            return complain("unknown option", a);
        } else {
            break;
        }
    }
    if (!o->code && i < argc) {
        if (strcmp(argv[i], "mock") == 0) {
            o->command = "mock";
            o->title = "leat mock";
            i++;
        } else if (strcmp(argv[i], "batch") == 0) {
            o->command = "cli.batch";
            o->title = "leat batch";
            i++;
        } else if (strcmp(argv[i], "repl") == 0) {
            o->repl = true;
            i++;
        } else if (strcmp(argv[i], "help") == 0) {
            return parse_help(o, argv + i + 1);
        } else if (strcmp(argv[i], "version") == 0) {
            if (argv[i + 1])
                return complain("unexpected argument", argv[i + 1]);
            return print_version();
        } else {
            if (strcmp(argv[i], "run") == 0) {
                if (++i >= argc)
                    return complain("run requires a script", NULL);
            }
            o->script = argv[i++];
        }
    }
    o->args = argv + i;
    if (o->then_repl && !o->code && (!o->script || strcmp(o->script, "-") == 0))
        return complain("-i requires a script, or -e and a line of Lua", NULL);
    if (!o->code && !o->script && !o->command && !o->repl) {
        o->repl = isatty(STDIN_FILENO);
        o->script = o->repl ? NULL : "-";
    }
    if (o->time_limit_ms && (o->repl || o->then_repl))
        return complain("--time-limit does not work at the prompt: use Ctrl-C there", NULL);
    if (o->sandbox && (o->repl || o->then_repl || o->command))
        return complain("--sandbox works only with a script or -e", NULL);
    return -1;
}

/* Reads all of standard input. NULL: errno says why; EFBIG if it is too large. */
static char *read_stdin(size_t *len)
{
    char *text = NULL;
    size_t cap = 0;
    *len = 0;
    for (;;) {
        if (*len == cap) {
            cap = cap ? cap * 2 : 65536;
            char *more = cap > (64u << 20) ? NULL : realloc(text, cap);
            if (!more) {
                free(text);
                errno = EFBIG;
                return NULL;
            }
            text = more;
        }
        ssize_t n = read(STDIN_FILENO, text + *len, cap - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int code = errno;
            free(text);
            errno = code;
            return NULL;
        }
        if (n == 0)
            return text;
        *len += (size_t)n;
    }
}

/* Returns the status, or a failure if printed output could not be written. */
static int flushed(int rc)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return rc;
    if (errno == EPIPE || cli_signal_got() == SIGPIPE) /* the reader has closed the pipe */
        return rc && rc != EXIT_SIGPIPE ? rc : EXIT_SIGPIPE;
    fprintf(stderr, "leat: cannot write to standard output\n");
    return rc ? rc : EXIT_SCRIPT;
}

static bool start(leat_runtime *rt, const struct options *o, struct leat_error *err)
{
    if (o->command) {
        char code[64];
        int len = snprintf(code, sizeof code, "return require('leat.%s').main({...})", o->command);
        return leat_start_string(rt, "=command", code, (size_t)len, o->args, err);
    }
    if (o->repl) {
        static const char code[] = "return require('leat.repl.repl').main({...})";
        return leat_start_string(rt, "=repl", code, sizeof code - 1, o->args, err);
    }
    if (o->then_repl) { /* the script or code stands before its arguments */
        const char *code = o->code ? "return require('leat.repl.repl').main({...}, 'code')"
                                   : "return require('leat.repl.repl').main({...}, 'script')";
        return leat_start_string(rt, "=repl", code, strlen(code), o->args - 1, err);
    }
    if (o->code)
        return leat_start_string(rt, "=(command line)", o->code, strlen(o->code), o->args, err);
    if (strcmp(o->script, "-") != 0)
        return leat_start_file(rt, o->script, o->args, err);
    return leat_start_string(rt, "=stdin", o->text, o->text_len, o->args, err);
}

static int finish(leat_runtime *rt, enum leat_status status)
{
    int sig = cli_signal_got();
    const char *report = leat_report(rt);
    fflush(stdout);
    switch (status) {
    case LEAT_OK:
        return sig ? 128 + sig : 0;
    case LEAT_EXITED:
        return leat_exit_code(rt);
    case LEAT_CANCELLED:
        if (sig) {
            if (sig != SIGPIPE)
                fprintf(stderr, "leat: interrupted\n");
            return 128 + sig;
        }
        break;
    case LEAT_FAILED:
        if (sig == SIGPIPE) /* the reader of its output has gone */
            return EXIT_SIGPIPE;
        break;
    default:
        break;
    }
    fprintf(stderr, "leat: %s\n", report);
    return sig ? 128 + sig : EXIT_SCRIPT;
}

/* The end of the message for a script that does not exist: it may be a misspelt command. */
static const char *no_command(const char *word)
{
    if (strpbrk(word, "./") || access(word, F_OK) == 0)
        return "";
    return ", and there is no such command: batch, help, mock, repl, run, version (see "
           "leat --help)";
}

/* If the caller closed descriptor 0, 1 or 2, the first socket or timer that we open would get its
 * number. So we open /dev/null in its place, in the wrong direction: its use fails, as it would for
 * a closed descriptor. Only messages to descriptor 2 succeed, and are lost. */
static void open_standard_files(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", modes[fd]); /* open takes the lowest free number: fd */
}

int main(int argc, char **argv)
{
    open_standard_files();
    struct options o = {0};
    int rc = parse(argc, (const char *const *)argv, &o);
    if (rc >= 0)
        return flushed(rc);
    char dir[4096] = ".";
    const char *slash = o.script ? strrchr(o.script, '/') : NULL;
    if (slash && (size_t)(slash - o.script) < sizeof dir)
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - o.script), o.script);
    struct leat_config config = {
        .virtual_time = o.virtual_time,
        .seed = o.seed,
        .env_proxy = true,
        .allow_connect = o.allow_connect,
        .time_limit_ms = o.time_limit_ms,
        .memory_limit = o.memory_limit,
        .network_threads = o.network_threads,
        .sandbox = o.sandbox ? LEAT_SANDBOX_RESTRICTED : LEAT_SANDBOX_FULL,
        .script_dir = dir,
        .log = write_line,
        .min_log_level = o.quiet     ? LEAT_LOG_ERROR
                         : o.verbose ? LEAT_LOG_DEBUG
                                     : LEAT_LOG_INFO,
    };
    struct leat_error err = {{0}, {0}};
    if (o.script && strcmp(o.script, "-") == 0) { /* an interrupt still ends the process here */
        o.text = read_stdin(&o.text_len);
        if (!o.text) {
            fprintf(stderr, "leat: cannot read a script from standard input: %s\n",
                    strerror(errno));
            return EXIT_USAGE;
        }
    }
    cli_signal_begin();
    cli_alloc_install();
    leat_runtime *rt = leat_new(&config, &err);
    if (!rt) {
        fprintf(stderr, "leat: %s\n", err.message);
        return strcmp(err.kind, "invalid") == 0 ? EXIT_USAGE : EXIT_SCRIPT;
    }
    runtime_inside(rt)->log.is_hosts = false;
    struct repl *repl = o.repl || o.then_repl ? repl_new(runtime_inside(rt)) : NULL;
    o.see.repl = repl != NULL;
    if (o.verbose && !o.virtual_time)
        runtime_watch_waits(rt);
    o.see.title = o.script ? o.script : o.title ? o.title : "leat";
    if (!cli_signal_watch(rt, repl, !repl)) {
        fprintf(stderr, "leat: not enough memory\n");
        rc = EXIT_SCRIPT;
    } else if (!cli_outputs_begin(&o.see, rt)) {
        rc = EXIT_USAGE;
    } else if (start(rt, &o, &err)) {
        rc = cli_outputs_end(&o.see, rt, finish(rt, leat_run(rt)));
    } else {
        fprintf(stderr, "leat: %s%s\n", err.message, o.script ? no_command(o.script) : "");
        cli_outputs_drop(&o.see);
        rc = strcmp(err.kind, "script") == 0 ? EXIT_SCRIPT : EXIT_USAGE;
    }
    cli_signal_close();
    repl_free(repl);
    leat_free(rt);
    free(o.text);
    return flushed(rc);
}
