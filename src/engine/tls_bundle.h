/* A file of CA certificates, of which few are ever needed. Only their names are read at first; a
 * certificate is decoded when a chain asks for its name. To decode the system's 140 certificates at
 * once would take ten times as long, and six times the memory. Engine thread only. */
#pragma once

#include "ground/err.h"
#include "ground/list.h"
#include "ground/mem.h"

struct x509_store_st;
struct x509_lookup_method_st;

struct tls_bundle {
    struct mem *mem;
    struct list waiting; /* those that nobody has asked for */
};

void tls_bundle_init(struct tls_bundle *b, struct mem *mem);
void tls_bundle_fini(struct tls_bundle *b);
/* Reads a file in PEM form. ERR_TLS: it cannot be read, or holds no certificate, or something
 * broken; those that were read before that stay. ERR_MEMORY. */
NODISCARD enum err_kind tls_bundle_read(struct tls_bundle *b, const char *file);

/* How a store asks a bundle. Freed by tls_bundle_method_free, after all its stores. NULL: no
 * memory. */
struct x509_lookup_method_st *tls_bundle_method_new(void);
void tls_bundle_method_free(struct x509_lookup_method_st *method);
/* `b` must outlive the store. False: no memory. */
NODISCARD bool tls_bundle_serve(struct tls_bundle *b, struct x509_store_st *store,
                                struct x509_lookup_method_st *method);
