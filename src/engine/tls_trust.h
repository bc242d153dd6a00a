/* Whom to trust: stores of CA certificates. A file is read once, when the first connection needs
 * it, and all contexts that name it share what was read. Engine thread only. */
#pragma once

#include "ground/err.h"
#include "ground/list.h"
#include "ground/mem.h"
#include <sys/stat.h>

struct x509_store_st;
struct x509_lookup_method_st;

/* Tells whether a file has been changed. */
struct tls_stamp {
    bool there;
    dev_t device;
    ino_t number;
    off_t size;
    struct timespec changed;
};

struct tls_trust {
    struct mem *mem;
    struct list stores;
    char *file, *folder;                  /* of the system; either may be NULL */
    struct x509_lookup_method_st *method; /* NULL until it is needed */
};

/* One file of CA certificates, or the system's. */
struct tls_store;

/* The system's certificates: those that SSL_CERT_FILE and SSL_CERT_DIR name, as for OpenSSL, else
 * the bundle of libcurl. Reads the environment, and no file. */
NODISCARD enum err_kind tls_trust_init(struct tls_trust *t, struct mem *mem, struct err *err);
void tls_trust_fini(struct tls_trust *t);

/* `file`: NULL for the system's. The caller gets a reference. Reads the file if it is new or has
 * changed. ERR_TLS: it holds no certificates (only for a file that was named). */
NODISCARD enum err_kind tls_trust_take(struct tls_trust *t, const char *file,
                                       struct tls_store **out, struct err *err);
void tls_trust_drop(struct tls_store *store);
/* False: the files are not those any more that were read. */
bool tls_trust_is_current(const struct tls_store *store);
struct x509_store_st *tls_trust_x509(const struct tls_store *store);

/* `path` may be NULL. */
struct tls_stamp tls_trust_stamp(const char *path);
bool tls_trust_same(const struct tls_stamp *a, const struct tls_stamp *b);
