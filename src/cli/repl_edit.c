#include "cli/repl_edit.h"

#include "cli/repl_history.h"
#include "cli/repl_screen.h"
#include "ground/buf.h"
#include "ground/list.h"
#include "loop/fd_duplicate.h"
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wchar.h>

#define MAX_PASTE_CHARS ((size_t)4 << 20)
#define MAX_TAIL_BYTES ((size_t)1 << 16)
#define COMPLETE_WAIT_MS 2000
#define TAIL_WAIT_MS 100
#define HISTORY_ENTRIES 5000

enum command_kind { PROMPT, DROP, ANSWER, REMEMBER, STORE, QUIT };

/* A command from the loop's thread to the editor's. */
struct command {
    struct list node;
    enum command_kind kind;
    unsigned number;
    size_t len; /* length of the first text, which is followed by a NUL and the second text */
    char *more; /* the second text */
    char text[];
};

struct editor {
    struct mem *mem;
    editor_fn fn;
    void *arg;
    pthread_t thread;
    int event_fd, pipe_read, pipe_write, tty;
    atomic_bool resized, continued;
    pthread_mutex_t lock;
    struct list commands; /* under the lock */

    /* Only the editor's thread uses the rest. */
    EditLine *el;
    History *history;
    FILE *out;
    int history_fd;
    bool redirected[2]; /* whether descriptors 1 and 2 are redirected */
    bool editing, dropped, quit, eof;
    char prompt[32];
    struct command *next_prompt;
    unsigned completion; /* the number of the awaited answer; 0: none */
    unsigned completions;
    struct command *answer;
    mbstate_t decoding;
    struct buf tail; /* output above the line, without a line end so far */
};

/* ---- commands ---- */

static bool send(struct editor *e, enum command_kind kind, unsigned number, const char *text,
                 size_t len, const char *more)
{
    size_t more_len = strlen(more);
    struct command *c = mem_alloc(e->mem, sizeof *c + len + more_len + 2);
    if (!c)
        return false;
    *c = (struct command){.kind = kind, .number = number, .len = len};
    list_init(&c->node);
    memcpy(c->text, text, len);
    c->text[len] = '\0';
    c->more = c->text + len + 1;
    memcpy(c->more, more, more_len + 1);
    pthread_mutex_lock(&e->lock);
    list_push_back(&e->commands, &c->node);
    pthread_mutex_unlock(&e->lock);
    eventfd_write(e->event_fd, 1);
    return true;
}

static struct command *receive(struct editor *e)
{
    pthread_mutex_lock(&e->lock);
    struct list *node = list_pop_front(&e->commands);
    pthread_mutex_unlock(&e->lock);
    return node ? CONTAINER_OF(node, struct command, node) : NULL;
}

static void remember(struct editor *e, const struct command *c)
{
    HistEvent ev;
    history(e->history, &ev, H_ENTER, c->text);
    if (c->kind == STORE)
        repl_history_append(e->history_fd, e->mem, c->text, c->len);
}

static void obey(struct editor *e, struct command *c)
{
    switch (c->kind) {
    case PROMPT:
        mem_free(e->mem, e->next_prompt);
        e->next_prompt = c;
        return;
    case ANSWER:
        if (e->completion == c->number && c->number != 0) {
            mem_free(e->mem, e->answer);
            e->answer = c;
            return;
        }
        break;
    case DROP:
        if (e->editing)
            e->dropped = true;
        else if (!e->next_prompt)
            e->fn(e->arg, EDITOR_IDLE, "", 0, 0);
        break;
    case QUIT:
        e->quit = true;
        break;
    default:
        remember(e, c);
    }
    mem_free(e->mem, c);
}

/* ---- what is printed while a line is edited ---- */

static void show_tail(struct editor *e)
{
    if (e->tail.len == 0)
        return;
    repl_screen_above(e->el, e->out, e->prompt, e->tail.data, e->tail.len);
    buf_clear(&e->tail);
}

/* Draws complete lines of output. An incomplete line waits a moment for its end. */
static void show_output(struct editor *e)
{
    char part[65536];
    ssize_t n;
    while ((n = read(e->pipe_read, part, sizeof part)) > 0) {
        if (!e->editing) { /* the end of a write that began while a line was edited */
            fwrite(part, 1, (size_t)n, e->out);
            fflush(e->out);
            continue;
        }
        const char *end = memrchr(part, '\n', (size_t)n);
        size_t whole = end ? (size_t)(end - part) + 1 : 0;
        if (whole > 0 && e->tail.len > 0) {
            if (buf_append(&e->tail, part, whole) == ERR_NONE) {
                show_tail(e);
            } else {
                show_tail(e);
                repl_screen_above(e->el, e->out, e->prompt, part, whole);
            }
        } else if (whole > 0) {
            repl_screen_above(e->el, e->out, e->prompt, part, whole);
        }
        size_t rest = (size_t)n - whole;
        if (rest > 0 && buf_append(&e->tail, part + whole, rest) != ERR_NONE)
            show_tail(e);
    }
}

static void redirect(struct editor *e)
{
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        e->redirected[fd - 1] = isatty(fd);
        if (e->redirected[fd - 1])
            dup2(e->pipe_write, fd);
    }
}

static void restore(struct editor *e)
{
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        if (e->redirected[fd - 1])
            dup2(e->tty, fd);
        e->redirected[fd - 1] = false;
    }
    if (e->tail.len > 0)
        fwrite(e->tail.data, 1, e->tail.len, e->out);
    buf_clear(&e->tail);
    show_output(e);
    fflush(e->out);
}

/* ---- waiting ---- */

/* Waits at most that long for keys (if `keys`), a command or output, and handles commands and
 * output. True: there are keys to read. */
static bool wait_for_keys(struct editor *e, bool keys, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = e->event_fd, .events = POLLIN},
                           {.fd = e->out ? e->pipe_read : -1, .events = POLLIN},
                           {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN}};
    if (e->editing && e->tail.len > 0)
        timeout_ms = TAIL_WAIT_MS;
    int n = poll(fds, ARRAY_LEN(fds), timeout_ms);
    if (n == 0 && e->editing)
        show_tail(e);
    if (n <= 0)
        return false;
    if (fds[0].revents) {
        eventfd_t count;
        eventfd_read(e->event_fd, &count);
        struct command *c;
        while ((c = receive(e)) != NULL)
            obey(e, c);
        bool resized = atomic_exchange(&e->resized, false);
        if ((atomic_exchange(&e->continued, false) || resized) && e->editing)
            repl_screen_changed(e->el, e->out, e->prompt, resized);
    }
    if (fds[1].revents)
        show_output(e);
    return fds[2].revents != 0;
}

/* Gives libedit the next character; 0 ends the edit. */
static int read_char(EditLine *el, wchar_t *out)
{
    struct editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    while (!e->quit && !e->dropped && !e->eof) {
        if (!wait_for_keys(e, true, -1))
            continue;
        char byte; /* one by one: bytes after the line's end may be for another reader */
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0) {
            e->eof = true;
            break;
        }
        size_t rc = mbrtowc(out, &byte, 1, &e->decoding);
        if (rc == (size_t)-1)
            memset(&e->decoding, 0, sizeof e->decoding); /* an invalid character is skipped */
        else if (rc != (size_t)-2)
            return 1;
    }
    return 0;
}

/* ---- keys of ours ---- */

static unsigned char complete(EditLine *el, int key)
{
    UNUSED(key);
    struct editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    const LineInfo *line = el_line(el);
    e->completion = ++e->completions;
    e->fn(e->arg, EDITOR_COMPLETE, line->buffer, (size_t)(line->cursor - line->buffer),
          e->completion);
    for (int i = 0; i < COMPLETE_WAIT_MS / 10 && !e->answer && !e->quit && !e->dropped; i++)
        wait_for_keys(e, false, 10);
    e->completion = 0;
    struct command *answer = e->answer;
    e->answer = NULL;
    if (!answer)
        return CC_ERROR;
    if (answer->more[0])
        repl_screen_above(el, e->out, e->prompt, answer->more, strlen(answer->more));
    unsigned char rc = CC_REFRESH;
    if (answer->len > 0 && el_insertstr(el, answer->text) != 0)
        rc = CC_ERROR;
    mem_free(e->mem, answer);
    return rc;
}

static const wchar_t paste_end[] = L"\033[201~";
enum { PASTE_END_LEN = 6 };

/* Text between the terminal's paste marks is inserted as text, even if it looks like keys. */
static unsigned char paste(EditLine *el, int key)
{
    UNUSED(key);
    struct editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    size_t len = 0, cap = 256;
    wchar_t *text = mem_alloc(e->mem, cap * sizeof *text), c;
    while (text && read_char(el, &c) == 1) {
        if (len + 1 >= cap) {
            cap *= 2;
            wchar_t *more =
                cap > MAX_PASTE_CHARS ? NULL : mem_realloc(e->mem, text, cap * sizeof *text);
            if (!more)
                break;
            text = more;
        }
        if (c == L'\r')
            c = L'\n';
        text[len++] = c;
        if (c == L'~' && len >= PASTE_END_LEN &&
            wmemcmp(text + len - PASTE_END_LEN, paste_end, PASTE_END_LEN) == 0) {
            len -= PASTE_END_LEN;
            break;
        }
    }
    while (len > 0 && text[len - 1] == L'\n')
        len--;
    unsigned char rc = CC_ERROR;
    if (text && len > 0) {
        text[len] = L'\0';
        rc = el_winsertstr(el, text) == 0 ? CC_REFRESH : CC_ERROR;
    }
    mem_free(e->mem, text);
    return rc;
}

static char *prompt_of(EditLine *el)
{
    struct editor *e;
    el_get(el, EL_CLIENTDATA, &e);
    return e->prompt;
}

/* ---- the thread ---- */

static void set_up_keys(EditLine *el)
{
    static const char *const keys[][2] = {
        {"^I", "leat-complete"},       {"\\e[200~", "leat-paste"},
        {"^R", "em-inc-search-prev"},  {"\\e[A", "ed-prev-history"},
        {"\\e[B", "ed-next-history"},  {"\\eOA", "ed-prev-history"},
        {"\\eOB", "ed-next-history"},  {"\\e[C", "ed-next-char"},
        {"\\e[D", "ed-prev-char"},     {"\\eOC", "ed-next-char"},
        {"\\eOD", "ed-prev-char"},     {"\\e[H", "ed-move-to-beg"},
        {"\\e[F", "ed-move-to-end"},   {"\\eOH", "ed-move-to-beg"},
        {"\\eOF", "ed-move-to-end"},   {"\\e[1~", "ed-move-to-beg"},
        {"\\e[4~", "ed-move-to-end"},  {"\\e[3~", "ed-delete-next-char"},
        {"\\e[1;5C", "em-next-word"},  {"\\e[1;5D", "ed-prev-word"},
        {"^W", "ed-delete-prev-word"},
    };
    el_set(el, EL_EDITOR, "emacs");
    /* Uses the wide call, because the narrow one copies the names and never frees them. */
    el_wset(el, EL_ADDFN, L"leat-complete", L"Complete the name before the cursor", complete);
    el_wset(el, EL_ADDFN, L"leat-paste", L"Insert what the terminal pastes", paste);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

static void load_entry(void *arg, const char *entry)
{
    struct editor *e = arg;
    HistEvent ev;
    history(e->history, &ev, H_ENTER, entry);
}

static bool set_up(struct editor *e)
{
    HistEvent ev;
    e->out = fdopen(fd_duplicate(e->tty, 3), "w");
    e->history = history_init();
    if (e->out)
        e->el = el_init_fd("leat", stdin, e->out, e->out, STDIN_FILENO, e->tty, e->tty);
    if (!e->el || !e->history)
        return false;
    history(e->history, &ev, H_SETSIZE, HISTORY_ENTRIES);
    history(e->history, &ev, H_SETUNIQUE, 1);
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_SIGNAL, 0);
    el_set(e->el, EL_PROMPT, prompt_of);
    el_set(e->el, EL_HIST, history, e->history);
    el_set(e->el, EL_GETCFN, read_char);
    set_up_keys(e->el);
    e->history_fd = repl_history_open(e->mem, load_entry, e);
    return true;
}

static void edit(struct editor *e)
{
    snprintf(e->prompt, sizeof e->prompt, "%s", e->next_prompt->text);
    mem_free(e->mem, e->next_prompt);
    e->next_prompt = NULL;
    e->dropped = e->eof = false;
    memset(&e->decoding, 0, sizeof e->decoding);
    redirect(e);
    repl_screen_begin(e->el, e->out);
    e->editing = true;
    int len = 0;
    const char *line = el_gets(e->el, &len);
    e->editing = false;
    repl_screen_end(e->el, e->out, e->prompt, e->dropped ? "^C" : e->quit ? "" : NULL);
    restore(e);
    if (e->quit)
        return;
    if (e->dropped) {
        e->fn(e->arg, EDITOR_DROPPED, "", 0, 0);
    } else if (!line || len <= 0) {
        e->fn(e->arg, EDITOR_EOF, "", 0, 0);
    } else {
        size_t n = (size_t)len;
        e->fn(e->arg, EDITOR_LINE, line, n - (line[n - 1] == '\n'), 0);
    }
}

/* Characters and their widths follow the user's locale if it names a character set, else UTF-8.
 * Only for this thread: the script's locale does not change. */
static locale_t use_characters(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (!locale || strcmp(nl_langinfo_l(CODESET, locale), "ANSI_X3.4-1968") == 0) {
        if (locale)
            freelocale(locale);
        locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    }
    if (locale)
        uselocale(locale);
    return locale;
}

static void *run(void *arg)
{
    struct editor *e = arg;
    locale_t locale = use_characters();
    e->history_fd = -1;
    bool ok = set_up(e);
    while (!e->quit) {
        if (e->next_prompt && ok)
            edit(e);
        else if (e->next_prompt) { /* no memory for libedit: treat it as the end of input */
            mem_free(e->mem, e->next_prompt);
            e->next_prompt = NULL;
            e->fn(e->arg, EDITOR_EOF, "", 0, 0);
        } else
            wait_for_keys(e, false, -1);
    }
    if (e->el)
        el_end(e->el);
    if (e->history)
        history_end(e->history);
    if (e->out)
        fclose(e->out);
    if (e->history_fd >= 0)
        close(e->history_fd);
    uselocale(LC_GLOBAL_LOCALE);
    if (locale)
        freelocale(locale);
    return NULL;
}

/* ---- public ---- */

bool repl_edit_possible(void)
{
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && term[0] &&
           strcmp(term, "dumb") != 0;
}

static void close_all(struct editor *e)
{
    int fds[] = {e->event_fd, e->pipe_read, e->pipe_write, e->tty};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    buf_fini(&e->tail);
    pthread_mutex_destroy(&e->lock);
    mem_free(e->mem, e);
}

static bool start_thread(struct editor *e)
{
    sigset_t all, before; /* signals go to the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&e->thread, NULL, run, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

enum err_kind repl_edit_new(struct editor **out, struct mem *mem, editor_fn fn, void *arg,
                            struct err *err)
{
    struct editor *e = mem_calloc(mem, sizeof *e);
    if (!e) {
        err_set(err, ERR_MEMORY, "not enough memory for the line editor");
        return ERR_MEMORY;
    }
    e->mem = mem;
    e->fn = fn;
    e->arg = arg;
    int fds[2] = {-1, -1};
    list_init(&e->commands);
    pthread_mutex_init(&e->lock, NULL);
    buf_init(&e->tail, mem, MAX_TAIL_BYTES);
    e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->tty = fd_duplicate(STDOUT_FILENO, 3);
    bool piped = pipe2(fds, O_CLOEXEC) == 0;
    e->pipe_read = fds[0];
    e->pipe_write = fds[1];
    if (piped)
        fcntl(e->pipe_read, F_SETFL, O_NONBLOCK);
    if (e->event_fd < 0 || e->tty < 0 || !piped || !start_thread(e)) {
        close_all(e);
        err_set(err, ERR_IO, "the line editor cannot be started: %s", strerror(errno));
        return ERR_IO;
    }
    *out = e;
    return ERR_NONE;
}

void repl_edit_free(struct editor *e)
{
    while (!send(e, QUIT, 0, "", 0, ""))
        usleep(1000);
    pthread_join(e->thread, NULL);
    struct command *c;
    while ((c = receive(e)) != NULL)
        mem_free(e->mem, c);
    mem_free(e->mem, e->next_prompt);
    mem_free(e->mem, e->answer);
    close_all(e);
}

bool repl_edit_prompt(struct editor *e, const char *prompt)
{
    return send(e, PROMPT, 0, prompt, strlen(prompt), "");
}

bool repl_edit_drop(struct editor *e)
{
    return send(e, DROP, 0, "", 0, "");
}

bool repl_edit_answer(struct editor *e, unsigned number, const char *insert, const char *list)
{
    return send(e, ANSWER, number, insert, strlen(insert), list);
}

bool repl_edit_remember(struct editor *e, const char *text, size_t len, bool store)
{
    return send(e, store ? STORE : REMEMBER, 0, text, len, "");
}

void repl_edit_terminal_changed(struct editor *e, bool resized)
{
    atomic_store(resized ? &e->resized : &e->continued, true);
    eventfd_write(e->event_fd, 1);
}
