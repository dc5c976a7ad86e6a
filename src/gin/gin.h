/* gin configuration: bindings of parameters to values, and values that name configurables.
 *
 * A configuration (gin_config) reads files and command-line bindings against a registry
 * (gin_registry: which modules, configurables, parameters exist) and answers with values. Nothing
 * in a gin file can run code: evaluating `@f()` makes a gin_object that says "f, with these
 * arguments"; src/run turns objects into structs. Files are read through fs/.
 *
 *   gin_registry_upstream(&reg, err); gin_config_new(reg, &cfg, err);
 *   gin_config_entry(cfg, "__main__.train", err);
 *   gin_add_search_path(cfg, "configs", err);
 *   gin_parse_file(cfg, "prompt_tuning/configs/models/t5_1_1_base_prompt.gin", err);
 *   gin_parse_bindings(cfg, bindings, n, err);
 *   gin_finalize(cfg, err);
 *   gin_call(cfg, "train", NULL, 0, &train, err);      -- an object with all its arguments
 *   gin_get(cfg, &train, "total_steps", &v);
 *
 * Ownership: every value, string and object belongs to the configuration and lives until
 * gin_config_free(). Strings are UTF-8 and NUL-terminated; `count` bytes may hold NULs.
 * A gin_registry is immutable after it was filled and may serve several configurations; a
 * gin_config is confined to one thread.
 *
 * Errors: statuses are SPT_E_CONFIG, SPT_E_NOTFOUND (a gin file), SPT_E_NOMEM. gin_last_error()
 * holds the complete text as gin words it, which may exceed spt_err. */
#ifndef SPT_GIN_GIN_H
#define SPT_GIN_GIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"

/* --- registry ---------------------------------------------------------------------------- */

enum gin_def_kind { GIN_FUNCTION, GIN_CLASS, GIN_METHOD };

/* One configurable. `signature` is written as in Python, without "self": "a, b=1, *, c, **kwargs".
 * A parameter without default is required; a default that is no literal (jnp.float32) is opaque. */
typedef struct gin_def {
    const char *module; /* where it lives: "t5x.utils" */
    const char *name;   /* below the module: "DatasetConfig", "EncoderDecoderModel.predict_batch" */
    enum gin_def_kind kind;
    const char *signature;
    bool registered;   /* known to static files from the start under module + "." + name */
    const char *about; /* one line for people; may be NULL */
} gin_def;

/* A macro of the upstream tree: what it means and where it is usually set. */
typedef struct gin_macro_info {
    const char *name;
    const char *about;
    const char *set_in;
} gin_macro_info;

typedef struct gin_registry gin_registry;

/* Only gin.macro, gin.constant and gin.singleton. */
spt_status gin_registry_new(gin_registry **out, spt_err *err);
void gin_registry_free(gin_registry *r); /* accepts NULL */
/* The tables are kept by reference. A module can be imported when it or one below it is known. */
spt_status gin_registry_add(gin_registry *r, const gin_def *defs, size_t n, spt_err *err);
spt_status gin_registry_add_module(gin_registry *r, const char *path, spt_err *err);
spt_status gin_registry_add_macros(gin_registry *r, const gin_macro_info *m, size_t n,
                                   spt_err *err);
/* Everything that prompt-tuning's gin files name (t5x, flaxformer, seqio, flax, prompt_tuning). */
spt_status gin_registry_upstream(gin_registry **out, spt_err *err);
size_t gin_registry_count(const gin_registry *r);
const gin_def *gin_registry_at(const gin_registry *r, size_t i);
/* NULL when unknown. */
const gin_macro_info *gin_registry_macro(const gin_registry *r, const char *name);

/* --- values ------------------------------------------------------------------------------ */

enum gin_kind {
    GIN_NONE,
    GIN_BOOL,
    GIN_INT,
    GIN_FLOAT,
    GIN_IMAG, /* an imaginary number: 3j */
    GIN_STR,
    GIN_BYTES,
    GIN_LIST,
    GIN_TUPLE,
    GIN_DICT,
    GIN_REF,      /* stored values only: @name, @name(), %NAME */
    GIN_OBJECT,   /* evaluated values only: the result of a call */
    GIN_CALLABLE, /* evaluated values only: what @name yields */
    GIN_REQUIRED, /* the sentinel %gin.REQUIRED */
    GIN_OPAQUE    /* a default that is no literal; `s` is its text */
};

typedef struct gin_ref gin_ref;
typedef struct gin_object gin_object;
typedef struct gin_value gin_value;

struct gin_value {
    uint8_t kind;   /* enum gin_kind */
    uint32_t count; /* bytes of a string, items of a list or tuple, pairs of a dict */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        const gin_value *items; /* dict: key, value, key, value, ... */
        const gin_ref *ref;     /* GIN_REF, GIN_CALLABLE */
        const gin_object *object;
    } u;
};

/* The name of a kind as Python says it: "int", "str", "dict", ... */
const char *gin_kind_name(const gin_value *v);
/* Numbers: true and the value when v is an int (not a bool) / an int or float / a bool. */
bool gin_as_int(const gin_value *v, int64_t *out);
bool gin_as_float(const gin_value *v, double *out);
bool gin_as_bool(const gin_value *v, bool *out);
/* NULL when v is no string. */
const char *gin_as_str(const gin_value *v);
/* Value of a dict under a string key; NULL when absent. */
const gin_value *gin_dict_get(const gin_value *dict, const char *key);
/* repr() as Python prints it on one line. */
void gin_repr(buf *out, const gin_value *v);

/* The definition behind an object, a callable or a reference; NULL for other kinds, for macros
 * whose definition is gin's own, and for references to unknown configurables. */
const gin_def *gin_def_of(const gin_value *v);
/* True when v is an object (a callable) made by module + "." + name, e.g.
 * gin_is(v, "t5x.utils.RestoreCheckpointConfig"). Real module names, never aliases. */
bool gin_is(const gin_value *v, const char *path);
/* Scope an object was made in, a reference was written with; "" for none. */
const char *gin_scope_of(const gin_value *v);
/* How many objects of this configurable were made before and including this one. */
uint64_t gin_object_index(const gin_value *v);
/* Arguments that were bound or passed, in order; defaults are not among them. */
size_t gin_object_count(const gin_value *v);
const char *gin_object_arg(const gin_value *v, size_t i, gin_value *out);

/* --- configuration ----------------------------------------------------------------------- */

typedef struct gin_config gin_config;

typedef struct gin_error {
    const char *kind; /* Python's name: "SyntaxError", "ValueError", ... */
    const char *text; /* message, with gin's "In file ..., line N" paragraphs appended */
    /* Where it is, as far as known. file is NULL for command-line bindings; line is 1-based, 0 if
     * unknown; column is 0-based in characters, -1 if unknown; source is the line. */
    const char *file;
    uint32_t line;
    int32_t column;
    const char *source;
    const char *hint; /* what to do; NULL when there is nothing to add */
} gin_error;

spt_status gin_config_new(const gin_registry *r, gin_config **out, spt_err *err);
void gin_config_free(gin_config *c); /* accepts NULL */
/* Makes a definition known to static files and to the command line before parsing, as the
 * reference does with its entry function: "__main__.train". Other definitions of the module
 * __main__ stay invisible. */
spt_status gin_config_entry(gin_config *c, const char *path, spt_err *err);
/* Directories searched after the current one, in this order. */
spt_status gin_add_search_path(gin_config *c, const char *prefix, spt_err *err);
/* %name yields the value; `literal` is gin source. */
spt_status gin_add_constant(gin_config *c, const char *name, const char *literal, spt_err *err);
/* Unknown configurables and imports are skipped: all of them (names NULL), or those listed. The
 * list must outlive the configuration. */
void gin_skip_unknown(gin_config *c, const char *const *names, size_t n);

/* Anything of the program's own that travels with the configuration; NULL at first. */
void gin_attach(gin_config *c, void *what);
void *gin_attached(const gin_config *c);

spt_status gin_parse_file(gin_config *c, const char *name, spt_err *err);
/* Text as given on a command line: errors say "In bindings string". */
spt_status gin_parse_string(gin_config *c, const char *text, size_t size, spt_err *err);
/* Bindings joined with newlines, parsed as one text. */
spt_status gin_parse_bindings(gin_config *c, const char *const *bindings, size_t n, spt_err *err);
/* One binding made by the program (an option): `literal` is gin source, e.g. "3" or "'text'". */
spt_status gin_bind(gin_config *c, const char *key, const char *literal, spt_err *err);
/* Appends text as a Python string literal, for gin_bind(). */
void gin_quote(buf *out, const char *text, size_t size);

/* Undefined macros, unknown references, %gin.REQUIRED left over: the first one is the error text,
 * spt_err names all of them with their meaning. Afterwards the configuration is locked. */
spt_status gin_finalize(gin_config *c, spt_err *err);
/* All macros that are referenced but undefined, or still %gin.REQUIRED, one per line with what
 * each means and where it is usually set. Returns how many. */
size_t gin_missing(const gin_config *c, buf *out);

/* Last failure of any call on this configuration; never NULL (kind "" before the first). */
const gin_error *gin_last_error(const gin_config *c);
/* kind: text, the source line and hint, as a program prints it. */
void gin_error_print(const gin_config *c, buf *out);

/* The stored, unevaluated value: "scope/configurable.parameter", or "%MACRO". */
spt_status gin_query(gin_config *c, const char *key, const gin_value **out, spt_err *err);
/* True when a binding exists, without error text. */
bool gin_has(gin_config *c, const char *key);

/* --- evaluation -------------------------------------------------------------------------- */

typedef struct gin_arg {
    const char *name;
    gin_value value;
} gin_arg;

/* A value with every evaluated reference replaced by an object, in a scope ("" for the root). */
spt_status gin_evaluate(gin_config *c, const gin_value *v, const char *scope, gin_value *out,
                        spt_err *err);
/* Calls "scope/configurable" (names as the command line would write them). The caller's arguments
 * win over bindings. *out is an object, or for gin.macro and gin.singleton their value. */
spt_status gin_call(gin_config *c, const char *name, const gin_arg *args, size_t n, gin_value *out,
                    spt_err *err);
/* Calls what @name yielded, in its scope (or `scope` when it has none). */
spt_status gin_call_value(gin_config *c, const gin_value *callable, const char *scope,
                          const gin_arg *args, size_t n, gin_value *out, spt_err *err);
/* Argument of an object: as bound or passed, else the default of the signature. False when the
 * object has no such argument. Marks the binding as read. */
bool gin_get(gin_config *c, const gin_value *object, const char *name, gin_value *out);
/* The same, but tells whether it was bound or passed (not a default). */
bool gin_get_given(gin_config *c, const gin_value *object, const char *name, gin_value *out,
                   bool *given);

/* --- text -------------------------------------------------------------------------------- */

/* The complete configuration, byte for byte as gin prints it (config.gin). */
spt_status gin_config_text(gin_config *c, bool provenance, buf *out, spt_err *err);
/* What calls really used, defaults included. */
spt_status gin_operative_text(gin_config *c, buf *out, spt_err *err);
/* Markdown of either text. */
void gin_markdown(const char *text, size_t size, buf *out);

/* One binding, for listings. */
typedef struct gin_binding_info {
    const char *scope;      /* macros: "" */
    const char *name;       /* registry name of the configurable; macros: the macro's name */
    const char *path;       /* real path: "t5x.utils.DatasetConfig"; macros: NULL */
    const char *param;      /* macros: NULL */
    const gin_value *value; /* unevaluated */
    const char *file;       /* NULL: command line */
    uint32_t line;
    bool read; /* some gin_get() asked for it, or (macros) an evaluation used it */
} gin_binding_info;
typedef void (*gin_binding_fn)(void *ctx, const gin_binding_info *b);
void gin_each_binding(const gin_config *c, gin_binding_fn fn, void *ctx);

#endif
