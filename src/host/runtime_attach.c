/* A runtime on the host's libuv loop: ready tasks run before the loop waits, and after it has
 * waited. */
#include "host/runtime_attach.h"

static void on_idle(uv_idle_t *handle)
{
    UNUSED(handle); /* this idle handle only keeps the loop from waiting */
}

static void run_ready(struct leat_runtime *r)
{
    if (r->rt.loop.in_turn) /* inside leat_free, which runs the loop and the tasks itself */
        return;
    if (r->attached.step(r))
        uv_idle_start(&r->attached.idle, on_idle);
    else
        uv_idle_stop(&r->attached.idle);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct leat_runtime *r = handle->data;
    run_ready(r);
    r->attached.polling = true;
}

static void on_check(uv_check_t *handle)
{
    struct leat_runtime *r = handle->data;
    r->attached.polling = false;
    run_ready(r);
}

static void on_closed(uv_handle_t *handle)
{
    struct leat_runtime *r = handle->data;
    r->rt.loop.open_handles--;
}

void runtime_attach(struct leat_runtime *r, bool (*step)(struct leat_runtime *r))
{
    struct loop *l = &r->rt.loop;
    struct attached *a = &r->attached;
    a->step = step;
    uv_prepare_init(l->uv, &a->prepare);
    uv_check_init(l->uv, &a->check);
    uv_idle_init(l->uv, &a->idle);
    a->prepare.data = a->check.data = a->idle.data = r;
    l->open_handles += 3;
    uv_prepare_start(&a->prepare, on_prepare);
    uv_check_start(&a->check, on_check);
    /* Tasks keep the loop alive: see loop_hold. */
    uv_unref((uv_handle_t *)&a->prepare);
    uv_unref((uv_handle_t *)&a->check);
    uv_unref((uv_handle_t *)&l->uv_timer);
}

void runtime_detach(struct leat_runtime *r)
{
    uv_close((uv_handle_t *)&r->attached.prepare, on_closed);
    uv_close((uv_handle_t *)&r->attached.check, on_closed);
    uv_close((uv_handle_t *)&r->attached.idle, on_closed);
}
