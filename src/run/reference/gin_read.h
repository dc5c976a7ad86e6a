/* Reading arguments of evaluated gin objects, for the files that turn them into settings
 * (gin_settings.c, gin_model.c).
 *
 * Reading is sticky: after the first complaint nothing more is read, and the caller looks once at
 * g->st. Asking for an argument marks its binding as acted on; what is only compared with the one
 * value we have (use_bias = False) is compared, so that it acts, too. Complaints are SPT_E_CONFIG
 * and name the binding. */
#ifndef SPT_RUN_GIN_READ_H
#define SPT_RUN_GIN_READ_H

#include "run/reference/gin_settings.h"

struct gs {
    gin_config *c;
    spt_err *err;
    spt_status st;
};

/* Name of a configurable, or of the kind of a value. */
const char *gs_name(const gin_value *o);
bool gs_is_object(const gin_value *v, const char *path);
void gs_complain(struct gs *g, const gin_value *o, const char *name, const gin_value *v,
                 const char *wanted);
/* "<what> <name> is not supported: <instead>"; instead may be NULL. */
void gs_refuse(struct gs *g, const gin_value *v, const char *what, const char *instead);

/* None when the object has no such argument. */
gin_value gs_arg(struct gs *g, const gin_value *o, const char *name);
/* `none` for None. */
double gs_real(struct gs *g, const gin_value *o, const char *name, double none);
int64_t gs_integer(struct gs *g, const gin_value *o, const char *name, int64_t none);
bool gs_boolean(struct gs *g, const gin_value *o, const char *name, bool none);
int64_t gs_positive(struct gs *g, const gin_value *o, const char *name);
const char *gs_text(struct gs *g, const gin_value *o, const char *name); /* NULL for None */
const char *gs_needed_text(struct gs *g, const gin_value *o, const char *name); /* never NULL */
/* "float32" of 'float32', jnp.float32; NULL for None. */
const char *gs_dtype_text(struct gs *g, const gin_value *o, const char *name);
/* A list or tuple of strings, or one string; out->item is the caller's to free. */
void gs_texts(struct gs *g, const gin_value *o, const char *name, struct gin_texts *out);
/* Only this value is served. */
void gs_only_bool(struct gs *g, const gin_value *o, const char *name, bool want);
void gs_only_none(struct gs *g, const gin_value *o, const char *name);

/* What a factory makes. The reference's callers supply the parameters named in `given`. */
gin_value gs_make(struct gs *g, const gin_value *o, const char *name, const char *const *given,
                  size_t n);
gin_value gs_made(struct gs *g, const gin_value *o, const char *name);

/* The argument "model" of an entry function (gin_model.c). */
void gs_read_model(struct gs *g, const gin_value *root, struct gin_model *m);
void gs_model_release(struct gin_model *m);

#endif
