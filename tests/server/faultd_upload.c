/* Routes that are called at the head of a request, before its body has arrived. */
#include "faultd.h"
#include <sys/socket.h>

enum { STALL_AFTER = 65536 };

/* Reads the body, of any size, without keeping it, and says what it was. An Expect is answered
 * first. stall=1: stops reading after 64 KB. */
static void upload(struct conn *c, const struct request *req)
{
    struct upload *u = xmalloc(sizeof *u);
    body_begin(&u->reader, req);
    u->hash = EVP_MD_CTX_new();
    if (!u->hash || EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL) != 1)
        exit(2);
    u->stall = query_num(req, "stall", 0);
    if (u->stall) { /* the kernel is not to take megabytes in its place */
        int size = STALL_AFTER;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    c->upload = u;
    if (request_header(req, "expect"))
        step_printf(c, "HTTP/1.1 100 Continue\r\n\r\n");
}

void upload_free(struct upload *u)
{
    request_free(&u->req);
    EVP_MD_CTX_free(u->hash);
    free(u);
}

static void upload_answer(struct conn *c, struct upload *u)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_DigestFinal_ex(u->hash, sum, &len);
    const char *coding = request_header(&u->req, "transfer-encoding");
    struct bytes out = {0};
    bytes_printf(&out, "{\"method\":");
    bytes_json(&out, u->req.method, strlen(u->req.method));
    bytes_printf(&out, ",\"bytes\":%llu,\"sha256\":\"", (unsigned long long)u->bytes);
    for (unsigned i = 0; i < len; i++)
        bytes_printf(&out, "%02x", sum[i]);
    bytes_printf(&out, "\",\"transfer_encoding\":");
    if (coding)
        bytes_json(&out, coding, strlen(coding));
    else
        bytes_printf(&out, "null");
    bytes_printf(&out, ",");
    add_headers_members(&out, &u->req);
    bytes_printf(&out, "}\n");
    respond_json(c, &u->req, &out);
}

int upload_feed(struct conn *c)
{
    struct upload *u = c->upload;
    const char *data;
    size_t at = 0, used, len;
    while ((used = body_next(&u->reader, c->in.data + at, c->in.len - at, &data, &len))) {
        EVP_DigestUpdate(u->hash, data, len);
        u->bytes += len;
        at += used;
    }
    bytes_drop(&c->in, at);
    if (u->reader.broken)
        return -1;
    if (u->stall && u->bytes >= STALL_AFTER) {
        c->paused = true;
        return 0;
    }
    if (!u->reader.done)
        return 0;
    upload_answer(c, u);
    upload_free(u);
    c->upload = NULL;
    return 1;
}

/* Answers without reading the body and closes; with linger=1 it closes its own side alone and takes
 * what still comes, so that the answer is certain to arrive. */
static void upload_early(struct conn *c, const struct request *req)
{
    respond(c, req, (int)query_num(req, "status", 413), "", "not that\n", 9);
    step_add(c, query_num(req, "linger", 0) ? STEP_LINGER : STEP_CLOSE);
}

/* Goes away while the body comes: how=reset|close. */
static void upload_gone(struct conn *c, const struct request *req)
{
    char how[16];
    step_add(c, strcmp(query_str(req, "how", how, sizeof how, "reset"), "reset") == 0 ? STEP_RESET
                                                                                      : STEP_CLOSE);
}

const struct route_row upload_routes[] = {
    {"/upload", upload},           {"/continue", upload}, {"/upload-early", upload_early},
    {"/upload-gone", upload_gone}, {NULL, NULL},
};
