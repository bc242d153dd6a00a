/* A game at 60 frames a second that shows an answer as it is streamed, while a ball goes its way:
 * Lua and network get 2 ms of each frame. It ends by Esc, or a second after the answer, and tells
 * its slowest frame.
 *
 *     cc sdl_game.c $(pkg-config --cflags --libs leat sdl2) -o sdl_game
 *     ./sdl_game "What is a leat?"   # of OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL
 */
#include <SDL.h>
#include <leat.h>
#include <stdio.h>

enum { WIDTH = 640, HEIGHT = 360, FPS = 60, BUDGET_US = 2000, COLUMNS = 70, SCALE = 2 };

/* It waits for the network; the frames go on. */
static const char script[] = "local stream, err = leat.openai {}:stream(...)\n"
                             "if not stream then return nil, err end\n"
                             "for delta in stream do show(delta) end\n";

struct game {
    char text[4096];
    size_t len;
    bool ended;
};

static void add_text(struct game *game, const char *text)
{
    game->len += SDL_strlcpy(game->text + game->len, text, sizeof game->text - game->len);
    game->len = SDL_min(game->len, sizeof game->text - 1); /* more than that is not shown */
}

/* The script's `show`. */
static leat_value *show(void *arg, const leat_value *const *args, size_t count,
                        struct leat_error *err)
{
    const char *text = count > 0 ? leat_to_string(args[0], NULL) : NULL;
    (void)err;
    if (text)
        add_text(arg, text);
    return NULL;
}

static void ended(void *arg, uint64_t id, enum leat_status status, const leat_value *const *results,
                  size_t count, const struct leat_error *err)
{
    struct game *game = arg;
    (void)id, (void)status, (void)results, (void)count;
    if (err)
        add_text(game, err->message);
    game->ended = true;
}

/* ASCII from the space to the underscore. Each octal digit is a row of three dots. */
static const uint16_t font[] = {
    000000, 022202, 055000, 057575, 027672, 051245, 025253, 022000, /*   ! " # $ % & ' */
    012221, 042224, 005250, 002720, 000024, 000700, 000002, 011244, /* ( ) * + , - . / */
    075557, 026227, 071747, 071717, 055711, 074717, 074757, 071222, /* 0 1 2 3 4 5 6 7 */
    075757, 075717, 002020, 002024, 012421, 007070, 042124, 071202, /* 8 9 : ; < = > ? */
    025743, 025755, 065656, 034443, 065556, 074647, 074644, 034553, /* @ A B C D E F G */
    055755, 072227, 011152, 055655, 044447, 057755, 065555, 025552, /* H I J K L M N O */
    065644, 025573, 065655, 034216, 072222, 055557, 055552, 055775, /* P Q R S T U V W */
    055255, 055222, 071247, 064446, 044211, 031113, 025000, 000007, /* X Y Z [ \ ] ^ _ */
};

static void draw_text(SDL_Renderer *to, const char *text)
{
    for (int i = 0; text[i]; i++) {
        int c = SDL_toupper((unsigned char)text[i]) - ' ';
        uint16_t dots = c >= 0 && c < (int)SDL_arraysize(font) ? font[c] : 0;
        for (int k = 0; k < 15; k++) {
            SDL_Rect dot = {SCALE * (20 + i % COLUMNS * 4 + k % 3),
                            SCALE * (40 + i / COLUMNS * 7 + k / 3), SCALE, SCALE};
            if (dots << k & 040000)
                SDL_RenderFillRect(to, &dot);
        }
    }
}

static void draw_frame(SDL_Renderer *to, const struct game *game, int frame)
{
    SDL_SetRenderDrawColor(to, 16, 24, 32, 255);
    SDL_RenderClear(to);
    SDL_Rect ball = {(int)((WIDTH - 20) * (0.5 + 0.5 * SDL_sin(frame * 0.05))), 30, 20, 20};
    SDL_SetRenderDrawColor(to, 240, 160, 32, 255);
    SDL_RenderFillRect(to, &ball);
    SDL_SetRenderDrawColor(to, 255, 255, 255, 255);
    draw_text(to, game->text);
    SDL_RenderPresent(to);
}

static bool wants_to_quit(void)
{
    bool quit = false;
    for (SDL_Event e; SDL_PollEvent(&e);)
        quit |= e.type == SDL_QUIT || (e.type == SDL_KEYDOWN && e.key.keysym.sym == SDLK_ESCAPE);
    return quit;
}

static void play(leat_runtime *rt, struct game *game, SDL_Renderer *to)
{
    double slowest = 0, tick_ms = 1000.0 / (double)SDL_GetPerformanceFrequency();
    int frame = 0;
    for (int linger = FPS; linger > 0 && !wants_to_quit(); linger -= game->ended) {
        Uint64 began = SDL_GetPerformanceCounter();
        leat_step(rt, BUDGET_US);
        draw_frame(to, game, frame++);
        double ms = tick_ms * (double)(SDL_GetPerformanceCounter() - began);
        slowest = SDL_max(slowest, ms);
        SDL_Delay((Uint32)SDL_max(0, 1000.0 / FPS - ms));
    }
    printf("%s\n%d frames, the slowest took %.2f ms\n", game->text, frame, slowest);
}

int main(int argc, char **argv)
{
    struct game game = {.len = 0};
    struct leat_error err = {.message = "no memory"};
    SDL_Window *window = NULL;
    SDL_Renderer *renderer = NULL;
    if (SDL_Init(SDL_INIT_VIDEO) != 0 ||
        SDL_CreateWindowAndRenderer(WIDTH, HEIGHT, 0, &window, &renderer) != 0) {
        fprintf(stderr, "sdl_game: %s\n", SDL_GetError());
        return 1;
    }
    SDL_SetWindowTitle(window, "Leat");
    leat_runtime *rt = leat_new(NULL, &err);
    leat_value *prompt = leat_string(argc > 1 ? argv[1] : "What is a leat?", SIZE_MAX);
    const leat_value *args[] = {prompt};
    bool ok = rt && leat_register(rt, "show", show, &game, &err) &&
              leat_eval(rt, "=game", script, SIZE_MAX, args, 1, ended, &game, &err);
    if (ok)
        play(rt, &game, renderer);
    else
        fprintf(stderr, "sdl_game: %s\n", err.message);
    leat_value_free(prompt);
    leat_free(rt); /* aborts what is on its way */
    SDL_DestroyRenderer(renderer);
    SDL_DestroyWindow(window);
    SDL_Quit();
    return ok ? 0 : 1;
}
