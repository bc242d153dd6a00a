/* Loaded into sdl_game by LD_PRELOAD: tells on standard error how many dots of text each frame
 * shows, where that has changed. */
#include <SDL.h>
#include <dlfcn.h>
#include <stdio.h>

enum { WIDTH = 640, HEIGHT = 360, WHITE = 0xffffff };

void SDL_RenderPresent(SDL_Renderer *renderer)
{
    static Uint32 pixels[WIDTH * HEIGHT];
    static int frames, before;
    int lit = 0;
    SDL_RenderReadPixels(renderer, NULL, SDL_PIXELFORMAT_RGB888, pixels, WIDTH * 4);
    for (int i = 0; i < WIDTH * HEIGHT; i++)
        lit += (pixels[i] & WHITE) == WHITE;
    frames++;
    if (lit != before)
        fprintf(stderr, "frame %d shows %d dots\n", frames, lit / 4);
    before = lit;
    void (*present)(SDL_Renderer *);
    *(void **)&present = dlsym(RTLD_NEXT, "SDL_RenderPresent");
    present(renderer);
}
