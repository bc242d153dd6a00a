#include "test.h"

#include "ground/err.h"

TEST(every_kind_has_a_name_that_leads_back_to_it)
{
    for (int i = ERR_NONE + 1; i < ERR_KIND_COUNT; i++) {
        const char *name = err_kind_name((enum err_kind)i);
        CHECK(name != NULL && name[0] != '\0');
        CHECK_EQ(err_kind_from_name(name), i);
    }
    for (int i = PHASE_NONE + 1; i < PHASE_COUNT; i++)
        CHECK(err_phase_name((enum err_phase)i)[0] != '\0');
    CHECK_STR(err_kind_name(ERR_NONE), "");
    CHECK_STR(err_kind_name(ERR_TOO_LARGE), "too_large");
    CHECK_STR(err_phase_name(PHASE_FIRST_BYTE), "first_byte");
    CHECK_EQ(err_kind_from_name(""), ERR_KIND_COUNT);
    CHECK_EQ(err_kind_from_name("nonsense"), ERR_KIND_COUNT);
}

TEST(setting_an_error_forgets_the_one_before)
{
    struct err e = {.code = 7, .retryable = true, .reason = "reset"};
    CHECK_EQ(err_set(&e, ERR_DNS, "host '%s'", "a"), ERR_DNS);
    CHECK_STR(e.message, "host 'a'");
    CHECK_STR(e.reason, "");
    CHECK(!e.retryable && e.code == 0);
    CHECK_EQ(err_reason(&e, "a reason that is far too long for its place"), ERR_DNS);
    CHECK_EQ(strlen(e.reason), sizeof(e.reason) - 1);
    CHECK_EQ(err_set(NULL, ERR_IO, "%d", 1), ERR_IO);
    CHECK_EQ(err_set(&e, ERR_IO, "again: %s", e.message), ERR_IO);
    CHECK_STR(e.message, "again: host 'a'");
}

TEST(a_cut_message_ends_with_a_whole_character)
{
    for (size_t pad = 240; pad < 256; pad++) {
        char text[300];
        memset(text, 'x', pad);
        strcpy(text + pad,
               "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac");
        struct err e;
        err_set(&e, ERR_IO, "%s", text);
        size_t len = strlen(e.message);
        CHECK(len > 252 && len < 256);
        CHECK(len <= pad || (len - pad) % 3 == 0);
    }
}

TEST_MAIN
