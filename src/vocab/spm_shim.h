/* libsentencepiece behind a C interface: no C++ type and no exception gets out, nothing is
 * printed. The caller has validated the model (spm_validate.h). The library allocates by itself;
 * its bad_alloc comes out as SPT_E_NOMEM (rulings 26). */
#ifndef SPT_VOCAB_SPM_SHIM_H
#define SPT_VOCAB_SPM_SHIM_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct spm spm;

/* `bytes`: a serialised ModelProto; copied. */
spt_status spm_open(const void *bytes, size_t size, spm **out, spt_err *err);
void spm_close(spm *s);
int32_t spm_size(const spm *s);
/* Hands the ids to `sink` in one call; the array is valid only during it. */
typedef spt_status (*spm_ids_fn)(void *ctx, const int *ids, size_t n, spt_err *err);
spt_status spm_encode(const spm *s, const char *text, size_t len, spm_ids_fn sink, void *ctx,
                      spt_err *err);
/* Ids must be in range. Hands the text to `sink` in one call. */
typedef spt_status (*spm_text_fn)(void *ctx, const char *text, size_t len, spt_err *err);
spt_status spm_decode(const spm *s, const int *ids, size_t n, spm_text_fn sink, void *ctx,
                      spt_err *err);

#ifdef __cplusplus
}
#endif
#endif
