/* pty SCRIPT COMMAND [ARG...]: runs the command on a pseudo-terminal of 80 columns and 24 rows,
 * with a small terminal behind it, and plays the steps of SCRIPT (a file, one step a line; "#": a
 * comment):
 *
 *   send TEXT     types; \r \n \e \t \\ \xHH as in C
 *   expect TEXT   waits until TEXT comes out, behind what the expect before has found
 *   row TEXT      waits until a row of the screen is exactly TEXT (blanks at its end do not count)
 *   line TEXT     waits until that is the row of the cursor; "line" alone: until it is empty
 *   column N      waits until the cursor is in that column, counted from 0
 *   until COMMAND waits until the shell command ends with 0
 *   size ROWS COLS, signal NUMBER (to the command)
 *   status N      waits for the command's end, and wants that status (128 + N for a signal)
 *
 * No step sleeps; each fails after 20 s, and the screen is shown then. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum { MAX_ROWS = 60, MAX_COLS = 200, OUT_MAX = 8 << 20, STEP_S = 100 };

static wchar_t cells[MAX_ROWS][MAX_COLS];
static int rows = 24, cols = 80, row, col, pending_wrap;
static char *out;
static size_t out_len, out_seen;
static int master;
static pid_t child;
static int status = -1;
static const char *script_name;
static int line_number;

/* ---- the terminal ---- */

static void clear(int r, int from, int to)
{
    for (int c = from; c < to; c++)
        cells[r][c] = L' ';
}

static void line_feed(void)
{
    if (row + 1 < rows) {
        row++;
        return;
    }
    memmove(cells[0], cells[1], (size_t)(rows - 1) * sizeof cells[0]);
    clear(rows - 1, 0, MAX_COLS);
}

static void put(wchar_t c)
{
    int width = wcwidth(c);
    if (width <= 0)
        return;
    if (pending_wrap || col + width > cols) {
        col = 0;
        pending_wrap = 0;
        line_feed();
    }
    cells[row][col] = c;
    if (width == 2)
        cells[row][col + 1] = L'\0'; /* the second half */
    col += width;
    if (col >= cols) {
        col = cols - 1;
        pending_wrap = 1;
    }
}

static int limit(int v, int max)
{
    return v < 0 ? 0 : v > max ? max : v;
}

static void control_sequence(const char *args, char final)
{
    int n = atoi(args), m = n ? n : 1;
    const char *semicolon = strchr(args, ';');
    if (args[0] == '?')
        return;
    if (final != 'm')
        pending_wrap = 0;
    switch (final) {
    case 'A':
        row = limit(row - m, rows - 1);
        break;
    case 'B':
        row = limit(row + m, rows - 1);
        break;
    case 'C':
        col = limit(col + m, cols - 1);
        break;
    case 'D':
        col = limit(col - m, cols - 1);
        break;
    case 'G':
        col = limit(m - 1, cols - 1);
        break;
    case 'H':
        row = limit(m - 1, rows - 1);
        col = limit(semicolon ? atoi(semicolon + 1) - 1 : 0, cols - 1);
        break;
    case 'J':
        clear(row, n == 2 ? 0 : col, MAX_COLS);
        for (int r = n == 2 ? 0 : row + 1; r < rows; r++)
            clear(r, 0, MAX_COLS);
        break;
    case 'K':
        clear(row, n == 0 ? col : 0, n == 1 ? col : MAX_COLS);
        break;
    case 'P':
        for (int c = col; c < cols; c++)
            cells[row][c] = c + m < cols ? cells[row][c + m] : L' ';
        break;
    case '@':
        for (int c = cols - 1; c >= col; c--)
            cells[row][c] = c - m >= col ? cells[row][c - m] : L' ';
        break;
    default: /* colours */
        break;
    }
}

static void show_byte(unsigned char b)
{
    static char escape[64];
    static size_t escape_len;
    static mbstate_t decoding;
    if (escape_len > 0) {
        if (escape_len + 1 >= sizeof escape) {
            escape_len = 0;
            return;
        }
        escape[escape_len++] = (char)b;
        escape[escape_len] = '\0';
        if (escape_len == 2) {
            if (b != '[')
                escape_len = 0;
        } else if (b >= 0x40) {
            control_sequence(escape + 2, (char)b);
            escape_len = 0;
        }
        return;
    }
    wchar_t c;
    char byte = (char)b;
    switch (b) {
    case 0x1b:
        escape[escape_len++] = (char)b;
        return;
    case '\r':
        col = pending_wrap = 0;
        return;
    case '\n':
        pending_wrap = 0;
        line_feed();
        return;
    case '\b':
        pending_wrap = 0;
        col = limit(col - 1, cols - 1);
        return;
    case '\t':
        col = limit((col / 8 + 1) * 8, cols - 1);
        return;
    default:
        break;
    }
    size_t rc = mbrtowc(&c, &byte, 1, &decoding);
    if (rc == (size_t)-1)
        memset(&decoding, 0, sizeof decoding);
    else if (rc != (size_t)-2 && b >= 0x20)
        put(c);
}

static void row_text(int r, char *text, size_t size)
{
    size_t len = 0, end = 0;
    mbstate_t state;
    memset(&state, 0, sizeof state);
    for (int c = 0; c < cols && len + MB_LEN_MAX + 1 < size; c++) {
        if (cells[r][c] == L'\0')
            continue;
        size_t n = wcrtomb(text + len, cells[r][c], &state);
        len += n == (size_t)-1 ? 0 : n;
        if (cells[r][c] != L' ')
            end = len;
    }
    text[end] = '\0';
}

/* ---- waiting ---- */

static void dump(void)
{
    char text[1024];
    int last = rows - 1;
    for (; last > 0; last--) {
        row_text(last, text, sizeof text);
        if (text[0])
            break;
    }
    for (int r = 0; r <= last; r++) {
        row_text(r, text, sizeof text);
        fprintf(stderr, "    |%s\n", text);
    }
    fprintf(stderr, "    cursor: row %d, column %d\n", row, col);
}

static void fail(const char *what, const char *text)
{
    fprintf(stderr, "  %s:%d: %s: %s\n", script_name, line_number, what, text);
    dump();
    if (status < 0)
        kill(child, SIGKILL);
    exit(1);
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Reads what there is, waiting for at most that long. False: the terminal is closed. */
static bool pump(int timeout_ms)
{
    struct pollfd p = {.fd = master, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) <= 0)
        return true;
    char part[65536];
    ssize_t n = read(master, part, sizeof part);
    if (n <= 0)
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    for (ssize_t i = 0; i < n; i++)
        show_byte((unsigned char)part[i]);
    if (out_len + (size_t)n >= OUT_MAX) /* what an expect has passed is not needed */
        out_len = out_seen = 0;
    memcpy(out + out_len, part, (size_t)n);
    out_len += (size_t)n;
    return true;
}

static bool found_text(const char *text)
{
    char *at = memmem(out + out_seen, out_len - out_seen, text, strlen(text));
    if (at)
        out_seen = (size_t)(at - out) + strlen(text);
    return at != NULL;
}

static bool found_row(const char *text)
{
    char shown[1024];
    for (int r = 0; r < rows; r++) {
        row_text(r, shown, sizeof shown);
        if (strcmp(shown, text) == 0)
            return true;
    }
    return false;
}

static bool found_line(const char *text)
{
    char shown[1024];
    row_text(row, shown, sizeof shown);
    return strcmp(shown, text) == 0;
}

static bool found_column(const char *text)
{
    return col == atoi(text);
}

static bool command_succeeds(const char *text)
{
    return system(text) == 0;
}

static void wait_until(bool (*test)(const char *), const char *what, const char *text)
{
    double deadline = now() + STEP_S;
    bool open = true;
    while (!test(text)) {
        if (!open || now() > deadline)
            fail(open ? what : "the terminal was closed", text);
        open = pump(50);
    }
}

static void wait_for_end(const char *text)
{
    double deadline = now() + STEP_S;
    int raw;
    pid_t ended;
    while ((ended = waitpid(child, &raw, WNOHANG)) == 0) {
        if (now() > deadline)
            fail("does not end", text);
        pump(10);
    }
    status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    while (pump(0) && poll(&(struct pollfd){.fd = master, .events = POLLIN}, 1, 0) > 0) {
    }
    char got[32];
    snprintf(got, sizeof got, "%d, wanted %s", status, text);
    if (status != atoi(text))
        fail("status", got);
}

/* ---- the script ---- */

static size_t unescape(char *s)
{
    char *to = s, *start = s;
    for (; *s; s++) {
        if (*s != '\\') {
            *to++ = *s;
            continue;
        }
        switch (*++s) {
        case 'r':
            *to++ = '\r';
            break;
        case 'n':
            *to++ = '\n';
            break;
        case 't':
            *to++ = '\t';
            break;
        case 'e':
            *to++ = 27;
            break;
        case 'x': {
            char hex[3] = {s[1], s[2], 0};
            *to++ = (char)strtol(hex, NULL, 16);
            s += 2;
            break;
        }
        default:
            *to++ = *s;
        }
    }
    *to = '\0';
    return (size_t)(to - start);
}

static void type(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(master, text, len);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            fail("cannot type", text);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
        pump(0);
    }
}

static void play(char *step)
{
    char *text = strchr(step, ' ');
    if (text)
        *text++ = '\0';
    else
        text = step + strlen(step);
    if (strcmp(step, "until") == 0) {
        wait_until(command_succeeds, "never succeeded", text);
        return;
    }
    size_t len = unescape(text);
    if (strcmp(step, "send") == 0) {
        type(text, len);
    } else if (strcmp(step, "expect") == 0) {
        wait_until(found_text, "never came out", text);
    } else if (strcmp(step, "row") == 0) {
        wait_until(found_row, "no such row", text);
    } else if (strcmp(step, "line") == 0) {
        wait_until(found_line, "not the cursor's row", text);
    } else if (strcmp(step, "column") == 0) {
        wait_until(found_column, "not the cursor's column", text);
    } else if (strcmp(step, "size") == 0) {
        sscanf(text, "%d %d", &rows, &cols);
        struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
        ioctl(master, TIOCSWINSZ, &size);
    } else if (strcmp(step, "signal") == 0) {
        kill(child, atoi(text));
    } else if (strcmp(step, "status") == 0) {
        wait_for_end(text);
    } else {
        fail("no such step", step);
    }
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    FILE *script = argc > 2 ? fopen(argv[1], "r") : NULL;
    out = malloc(OUT_MAX);
    if (!script || !out) {
        fprintf(stderr, "usage: pty SCRIPT COMMAND [ARG...]\n");
        return 2;
    }
    script_name = argv[1];
    for (int r = 0; r < MAX_ROWS; r++)
        clear(r, 0, MAX_COLS);
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    child = forkpty(&master, NULL, NULL, &size);
    if (child < 0)
        return 2;
    if (child == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    fcntl(master, F_SETFL, O_NONBLOCK);
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, script)) > 0) {
        line_number++;
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        if (line[0] && line[0] != '#')
            play(line);
    }
    free(line);
    fclose(script);
    if (status < 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    free(out);
    return 0;
}
