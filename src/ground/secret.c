#include "ground/secret.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool contains(const char *s, size_t len, const char *word)
{
    size_t word_len = strlen(word);
    for (size_t i = 0; i + word_len <= len; i++) {
        if (strncasecmp(s + i, word, word_len) == 0)
            return true;
    }
    return false;
}

bool secret_name(const char *name, size_t len)
{
    static const char *const parts[] = {
        "key",       "token",    "secret", "passw",   "passphrase", "pwd",  "cookie", "credential",
        "signature", "authoriz", "bearer", "session", "jwt",        "hmac", "csrf",   "xsrf"};
    /* These are too short to be searched inside other words. "code" is for access codes and
     * one-time codes. */
    static const char *const words[] = {"auth", "pass", "sig", "sid", "pin", "otp", "pw", "code"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (contains(name, len, parts[i]))
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strlen(words[i]) == len && strncasecmp(name, words[i], len) == 0)
            return true;
    }
    /* Finds X-Auth, x_auth_user and proxy-auth, where "auth" is a whole word, but not "author". */
    for (size_t i = 0; i + 4 <= len; i++) {
        bool starts = i == 0 || name[i - 1] == '-' || name[i - 1] == '_';
        bool ends = i + 4 == len || name[i + 4] == '-' || name[i + 4] == '_';
        if (starts && ends && strncasecmp(name + i, "auth", 4) == 0)
            return true;
    }
    return false;
}

enum {
    RANDOM_LEAST =
        32, /* shorter runs of letters and digits are usually words, versions and dates */
    RANDOM_PIECE = 16,
    RANDOM_TURNS = 3,
    BASE64_LEAST = 40,
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static size_t word_length(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && is_word(s[n]))
        n++;
    return n;
}

static bool same_word(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(s, word, len) == 0;
}

static bool ends_in(const char *s, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && strncasecmp(s + len - n, end, n) == 0;
}

static bool secret_word(const char *word, size_t len)
{
    static const char *const places[] = {"basic", "header",    "headers", "proxy", "proxies",
                                         "cert",  "env",       "query",   "form",  "params",
                                         "data",  "multipart", "user",    "bytes", "credentials"};
    if (ends_in(word, len, "tokens") || same_word(word, len, "token_burst"))
        return false; /* these count tokens and are no secrets */
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (same_word(word, len, places[i]))
            return true;
    }
    return secret_name(word, len);
}

bool secret_place(const char *name, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = word_length(name + i, len - i);
        if (n > 0 && secret_word(name + i, n))
            return true;
        i += n > 0 ? n : 1;
    }
    return false;
}

/* ---- what secrets look like */

static const struct form {
    const char *start;
    size_t least; /* the least number of characters after the prefix */
} forms[] = {
    {"sk-", 6},  {"sk_", 6},  {"pk_", 6},         {"rk_", 6},    {"wk_", 6},    {"ghp_", 4},
    {"gho_", 4}, {"ghu_", 4}, {"ghs_", 4},        {"ghr_", 4},   {"xai-", 8},   {"pplx-", 8},
    {"hf_", 8},  {"gsk_", 8}, {"github_pat_", 4}, {"glpat-", 8}, {"nvapi-", 8}, {"npm_", 8},
    {"AKIA", 8}, {"ASIA", 8}, {"AIza", 8},        {"whsec_", 8}, {"r8_", 8},    {"tvly-", 8},
};

static bool known_form(const char *word, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        size_t n = strlen(forms[i].start);
        if (len >= n + forms[i].least && memcmp(word, forms[i].start, n) == 0)
            return true;
    }
    return len > 5 && memcmp(word, "xox", 3) == 0 && word[4] == '-';
}

/* A JSON web token: "eyJ..." and a second part after a dot. */
static bool web_token(const char *s, size_t word, size_t len)
{
    return word >= 6 && memcmp(s, "eyJ", 3) == 0 && word + 1 < len && s[word] == '.' &&
           is_word(s[word + 1]);
}

/* A long run that mixes letters and digits within one piece. In a UUID or a name such as
 * "support_classifier_v2_2026-01-05", digits are in pieces of their own. */
static bool random_word(const char *s, size_t len)
{
    size_t piece = 0, turns = 0;
    for (size_t i = 0; len >= RANDOM_LEAST && i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!isalnum(c)) {
            piece = turns = 0;
            continue;
        }
        turns += piece > 0 && !isdigit(c) != !isdigit((unsigned char)s[i - 1]);
        if (++piece >= RANDOM_PIECE && turns >= RANDOM_TURNS)
            return true;
    }
    return false;
}

/* "Bearer " with a token, or "Basic " with base64. */
static bool credentials(const char *s, size_t word, size_t len)
{
    size_t at = word;
    while (at < len && (s[at] == ' ' || s[at] == '\t'))
        at++;
    if (at == word || at == len)
        return false;
    if (same_word(s, word, "bearer"))
        return isalnum((unsigned char)s[at]) || strchr("-._~+/", s[at]) != NULL;
    if (!same_word(s, word, "basic"))
        return false;
    size_t end = at;
    while (end < len && (isalnum((unsigned char)s[end]) || s[end] == '+' || s[end] == '/'))
        end++;
    return end > at && end < len && s[end] == '=';
}

/* Base64 of a digest or a key: it has upper case, lower case and digits. A path may be as long, but
 * has mostly small letters between its slashes. */
static bool base64_run(const char *s, size_t len)
{
    bool upper = false, lower = false, path = false, small = false;
    size_t turns = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        upper = upper || isupper(c);
        lower = lower || islower(c);
        turns += i > 0 && !isdigit(c) != !isdigit((unsigned char)s[i - 1]);
        path = path || (c == '/' && small && i > 0 && s[i - 1] != '/');
        small = c == '/' || (small && islower(c));
    }
    return upper && lower && turns >= RANDOM_TURNS && !path;
}

static bool password_in_url(const char *s, size_t len)
{
    bool colon = false;
    for (size_t i = 0; i < len && !isspace((unsigned char)s[i]) && !strchr("/\"'", s[i]); i++) {
        if (s[i] == '@')
            return colon;
        colon = colon || s[i] == ':';
    }
    return false;
}

static bool has(const char *text, size_t len, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= len; i++) {
        if (memcmp(text + i, part, n) == 0)
            return true;
    }
    return false;
}

static bool random_runs(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = 0;
        while (i + n < len && (isalnum((unsigned char)text[i + n]) || strchr("+/=", text[i + n])) &&
               text[i + n] != '\0')
            n++;
        if (n >= BASE64_LEAST && base64_run(text + i, n))
            return true;
        i += n > 0 ? n : 1;
    }
    return false;
}

bool secret_shape(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = word_length(text + i, len - i);
        if (n == 0) {
            if (len - i > 3 && memcmp(text + i, "://", 3) == 0 &&
                password_in_url(text + i + 3, len - i - 3))
                return true;
            i++;
            continue;
        }
        /* A key may follow "_" or "-" after another word, so each part is checked. */
        for (size_t k = 0; k < n; k++) {
            bool starts = k == 0 || !isalnum((unsigned char)text[i + k - 1]);
            if (starts &&
                (known_form(text + i + k, n - k) || web_token(text + i + k, n - k, len - i - k)))
                return true;
        }
        if (random_word(text + i, n) || credentials(text + i, n, len - i))
            return true;
        i += n;
    }
    return random_runs(text, len) ||
           (has(text, len, "-----BEGIN ") && has(text, len, "PRIVATE KEY"));
}

/* Called with the text after a name. Finds the start of a value after '": "', "=" or "] = "; 0:
 * there is none. */
static size_t value_behind(const char *s, size_t len)
{
    size_t at = 0;
    while (at < len && strchr("\"'] \t", s[at]) && s[at] != '\0')
        at++;
    if (at == len || (s[at] != '=' && s[at] != ':'))
        return 0;
    do
        at++;
    while (at < len && (s[at] == ' ' || s[at] == '\t'));
    return at < len ? at : 0;
}

bool secret_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = word_length(text + i, len - i);
        if (n > 0 && secret_name(text + i, n) && value_behind(text + i + n, len - i - n) > 0)
            return true;
        i += n > 0 ? n : 1;
    }
    return secret_shape(text, len);
}

const char *secret_hidden(const char *text)
{
    return secret_text(text, strlen(text)) ? "***" : text;
}

bool secret_segment(const char *s, size_t len)
{
    bool hexadecimal = true;
    for (size_t i = 0; i < len && hexadecimal; i++)
        hexadecimal = isxdigit((unsigned char)s[i]) || s[i] == '-';
    return !hexadecimal && secret_shape(s, len);
}
