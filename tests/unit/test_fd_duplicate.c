#include "test.h"

#include "loop/fd_duplicate.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

TEST(a_duplicate_is_another_number_that_programs_do_not_inherit)
{
    int fd = eventfd(0, 0), copy = fd_duplicate(fd, 0), far = fd_duplicate(fd, 40);
    CHECK(copy >= 0 && copy != fd);
    CHECK(far >= 40);
    CHECK_EQ(fcntl(copy, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(eventfd_write(copy, 5), 0);
    eventfd_t value = 0;
    CHECK_EQ(eventfd_read(fd, &value), 0);
    CHECK_EQ(value, 5);
    close(fd);
    close(copy);
    close(far);
    CHECK_EQ(fd_duplicate(fd, 0), -1);
}

struct turns {
    atomic_int turn; /* used so that it puts the threads into no order */
    int numbers[2];
};

static void wait_for(struct turns *t, int turn)
{
    while (atomic_load_explicit(&t->turn, memory_order_relaxed) != turn)
        sched_yield();
}

static void *first_owner(void *arg)
{
    struct turns *t = arg;
    int fd = eventfd(0, 0);
    eventfd_write(fd, 1);
    t->numbers[0] = fd;
    syscall(SYS_close, fd); /* as libuv does */
    atomic_store_explicit(&t->turn, 1, memory_order_relaxed);
    wait_for(t, 2);
    return NULL;
}

static void *second_owner(void *arg)
{
    struct turns *t = arg;
    wait_for(t, 1);
    int fd = fd_duplicate(STDOUT_FILENO, 0);
    t->numbers[1] = fd;
    CHECK_EQ(write(fd, "", 0), 0);
    CHECK_EQ(close(fd), 0);
    atomic_store_explicit(&t->turn, 2, memory_order_relaxed);
    return NULL;
}

/* Only under ThreadSanitizer can it fail. */
TEST(a_number_that_another_thread_had_before_is_no_race)
{
    struct turns t = {0};
    pthread_t first, second;
    REQUIRE(pthread_create(&first, NULL, first_owner, &t) == 0);
    REQUIRE(pthread_create(&second, NULL, second_owner, &t) == 0);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    CHECK_EQ(t.numbers[0], t.numbers[1]);
}

TEST_MAIN
