#include "cli/repl_screen.h"

#include "ground/base.h"
#include <string.h>
#include <sys/ioctl.h>
#include <wchar.h>

struct place {
    unsigned row, col; /* position relative to the start of the prompt */
};

static void window_size(FILE *out, unsigned *cols, unsigned *rows)
{
    struct winsize size = {0};
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        size.ws_col = 80;
    *cols = size.ws_col;
    *rows = size.ws_row ? size.ws_row : 24;
}

static void step(struct place *p, unsigned width, unsigned cols)
{
    if (p->col + width > cols) { /* a wide character does not fit the end of the row */
        p->row++;
        p->col = 0;
    }
    p->col += width;
    if (p->col >= cols) {
        p->row++;
        p->col = 0;
    }
}

/* Counts columns as libedit shows the character. */
static void advance(struct place *p, wchar_t c, unsigned cols)
{
    if (c == L'\n') {
        p->row++;
        p->col = 0;
    } else if (c == L'\t') {
        do
            step(p, 1, cols);
        while (p->col % 8 != 0);
    } else if (c < 0x20 || c == 0x7f) {
        step(p, 1, cols);
        step(p, 1, cols);
    } else {
        int width = wcwidth(c);
        if (width >= 0)
            step(p, (unsigned)width, cols);
        else
            for (int i = 0; i < (c > 0xffff ? 8 : 7); i++) /* \U+1234 */
                step(p, 1, cols);
    }
}

/* Finds the positions of the cursor and of the end of the text. */
static void find_places(EditLine *el, FILE *out, const char *prompt, struct place *cursor,
                        struct place *end)
{
    unsigned cols, rows;
    window_size(out, &cols, &rows);
    struct place at = {0, 0};
    for (; *prompt; prompt++)
        advance(&at, (unsigned char)*prompt, cols);
    const LineInfoW *line = el_wline(el);
    *cursor = at;
    for (const wchar_t *c = line->buffer; c < line->lastchar; c++) {
        if (c == line->cursor)
            *cursor = at;
        advance(&at, *c, cols);
    }
    if (line->cursor >= line->lastchar)
        *cursor = at;
    *end = at;
    cursor->row = MIN(cursor->row, rows - 1); /* the other rows have scrolled away */
    end->row = MIN(end->row, rows - 1);
}

void repl_screen_above(EditLine *el, FILE *out, const char *prompt, const char *text, size_t len)
{
    struct place cursor, end;
    find_places(el, out, prompt, &cursor, &end);
    if (cursor.row > 0)
        fprintf(out, "\033[%uA", cursor.row);
    fputs("\r\033[J", out);
    fwrite(text, 1, len, out);
    if (len > 0 && text[len - 1] != '\n')
        fputc('\n', out);
    fflush(out);
    el_set(el, EL_REFRESH);
}

void repl_screen_begin(EditLine *el, FILE *out)
{
    unsigned cols, rows;
    window_size(out, &cols, &rows);
    /* libedit itself does this only after the prompt: text typed before that would be echoed twice.
     */
    el_set(el, EL_PREP_TERM, 1);
    /* A full row of blanks wraps into the next row, unless it starts at the first column. */
    fprintf(out, "%*s\r\033[K\033[?2004h", (int)cols, "");
    fflush(out);
}

void repl_screen_end(EditLine *el, FILE *out, const char *prompt, const char *given_up)
{
    if (given_up) {
        struct place cursor, end;
        find_places(el, out, prompt, &cursor, &end);
        if (end.row > cursor.row)
            fprintf(out, "\033[%uB", end.row - cursor.row);
        fprintf(out, "\r\033[%uG%s\n", end.col + 1, given_up);
    }
    fputs("\033[?2004l", out);
    fflush(out);
}

void repl_screen_changed(EditLine *el, FILE *out, const char *prompt, bool resized)
{
    struct place cursor = {0, 0}, end;
    if (resized) /* else another process used the terminal and left the cursor on its own row */
        find_places(el, out, prompt, &cursor, &end);
    if (cursor.row > 0)
        fprintf(out, "\033[%uA", cursor.row);
    fputs("\r\033[J", out);
    fflush(out);
    el_resize(el);
    el_set(el, EL_PREP_TERM, 1);
    el_set(el, EL_REFRESH);
}
