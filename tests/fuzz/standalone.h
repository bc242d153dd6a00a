/* Without libFuzzer: the files given, each followed by changed copies of it. The includer defines
 * FUZZ_BYTES, a string of bytes that matter to what it fuzzes. */
#pragma once

#ifdef FUZZ_STANDALONE
#include <stdio.h>
#include <string.h>

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

int main(int argc, char **argv)
{
    static const char bytes[] = FUZZ_BYTES;
    uint64_t seed = 1;
    long runs = 0;
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (f == NULL)
            return 1;
        static uint8_t text[4096], changed[4200];
        size_t len = fread(text, 1, sizeof text, f);
        fclose(f);
        LLVMFuzzerTestOneInput(text, len);
        for (int round = 0; round < 20000; round++, runs++) {
            memcpy(changed, text, len);
            size_t n = len;
            for (uint64_t k = next_random(&seed) % 4 + 1; k > 0 && n > 0; k--) {
                size_t at = next_random(&seed) % n;
                uint8_t byte = (uint8_t)bytes[next_random(&seed) % (sizeof bytes - 1)];
                uint64_t what = next_random(&seed) % 4;
                if (what == 0) {
                    changed[at] = byte;
                } else if (what == 1) {
                    memmove(changed + at, changed + at + 1, n - at - 1);
                    n--;
                } else if (what == 2) {
                    memmove(changed + at + 1, changed + at, n - at);
                    changed[at] = byte;
                    n++;
                } else {
                    n = at;
                }
            }
            LLVMFuzzerTestOneInput(changed, n);
        }
    }
    printf("%ld texts\n", runs);
    return 0;
}
#endif
