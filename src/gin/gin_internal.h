/* What the files of gin/ share. The engine has four stages, each in its own file:
 *
 *   gin_lex.c      text -> tokens, as Python's tokenizer cuts them (the lexical level is Python's)
 *   gin_parse.c    tokens -> statements and values; gin_literal.c decodes numbers and strings
 *   gin_names.c    selectors -> registered configurables (static suffix match, dynamic imports)
 *   gin_config.c   statements -> bindings, includes, finalisation, queries
 *
 * and then gin_eval.c turns values into objects, gin_text.c and gin_repr.c print.
 *
 * Inside, functions return spt_status and leave the details in c->error (gin_fail); the public
 * wrappers copy them into spt_err (gin_report). Memory is a bump pool per configuration: nothing
 * is freed before the end, everything is freed at the end. */
#ifndef SPT_GIN_INTERNAL_H
#define SPT_GIN_INTERNAL_H

#include "gin/gin.h"

/* --- pool and interned strings (gin_pool.c) ---------------------------------------------- */

struct gin_chunk {
    struct gin_chunk *next;
    size_t size;
    size_t used;
    /* bytes follow */
};

typedef struct gin_pool {
    struct gin_chunk *head;
    size_t next_size;
    struct gin_intern_slot {
        const char *text; /* NULL: free */
        uint32_t hash, len;
    } * slot; /* interned strings, open addressing */
    size_t slots, interned;
} gin_pool;

/* Sizes of a pool's chunks. Tests make them 1, so that every piece is an allocation that can fail. */
extern size_t gin_pool_first, gin_pool_last;
void gin_pool_release(gin_pool *p);
/* 8-byte aligned; NULL when out of memory. */
void *gin_pool_alloc(gin_pool *p, size_t size);
char *gin_pool_copy(gin_pool *p, const char *s, size_t len);
/* Equal strings give equal pointers. */
const char *gin_intern(gin_pool *p, const char *s, size_t len);
uint64_t gin_hash_bytes(const void *p, size_t n);

/* --- registry ---------------------------------------------------------------------------- */

struct gin_param {
    const char *name;
    const char *dflt; /* NULL: none */
    bool kwonly;
};

/* A configurable of the registry with its parsed signature. */
struct gin_entry {
    const gin_def *def;
    const char *path;        /* module + "." + name */
    const char *static_name; /* known under this name from the start, or NULL */
    struct gin_param *param;
    uint32_t params;
    uint32_t index;
    bool kwargs;
};

struct gin_module {
    const char *path;
};

struct gin_registry {
    gin_pool pool;
    const struct gin_entry **entry;
    size_t entries, entry_cap;
    /* path -> entry (or NULL for a module or package), open addressing */
    struct gin_path {
        const char *path;
        const struct gin_entry *entry;
        bool module;  /* can be imported */
        bool package; /* has modules below */
    } * path;
    size_t paths, path_slots;
    const gin_macro_info **macro;
    size_t macros, macro_cap;
};

const struct gin_path *gin_registry_path(const struct gin_registry *r, const char *path, size_t n);
extern const gin_def gin_builtin_macro, gin_builtin_constant, gin_builtin_singleton;

/* --- values inside ----------------------------------------------------------------------- */

/* A configurable that the configuration knows by name. */
typedef struct gin_reg {
    const struct gin_entry *entry;
    const char *name; /* complete registry name */
    bool is_method;
    /* Import that provided it (dynamic registration) and the path behind its symbol. */
    const char *import_module; /* NULL: static */
    const char *import_alias;
    bool import_from;
    const char *import_selector;
} gin_reg;

struct gin_ref {
    const char *scope;    /* interned, "" for none, components joined with '/' */
    const char *selector; /* as written, interned */
    const gin_reg *reg;   /* NULL: unknown (skip_unknown) */
    bool evaluated;
};

struct gin_binding;
struct gin_object_arg {
    const char *name;
    gin_value value;
    struct gin_binding *from; /* NULL: passed by the caller */
};
struct gin_object {
    const gin_reg *reg;
    const char *scope;
    uint64_t index;
    struct gin_object_arg *arg;
    uint32_t args;
};

/* --- store ------------------------------------------------------------------------------- */

typedef struct gin_binding {
    struct gin_binding *next;
    struct gin_section *section;
    const char *param; /* interned */
    gin_value value;
    const char *file; /* interned; NULL: command line */
    uint32_t line;    /* 0: bound by the program */
    bool read;
} gin_binding;

/* All bindings of one (scope, configurable). */
typedef struct gin_section {
    struct gin_section *next; /* in order of first binding */
    const char *scope;        /* interned */
    const gin_reg *reg;
    gin_binding *first, *last;
    uint32_t count;
} gin_section;

/* Sections in order of first use, and by hash. */
typedef struct gin_table {
    gin_section *first, *last;
    gin_section **slot;
    size_t slots, count;
} gin_table;

struct gin_import {
    struct gin_import *next;
    const char *module;
    const char *alias;
    bool from;
};

struct gin_symbol {
    const char *name;
    const struct gin_import *import;
    const char *module;
};

/* Per text: gin's ParseContext. */
struct gin_context {
    bool dynamic;
    struct gin_import *first, *last;
    struct gin_symbol *symbol;
    size_t symbols, symbol_cap;
};

struct gin_node; /* trie of registered names, by reversed components */

struct gin_file {
    const struct gin_file *up;
    const char *path;
};

struct gin_config {
    const struct gin_registry *registry;
    void *attached;
    gin_pool pool;
    /* names */
    gin_reg **reg_of; /* by entry index; NULL: not registered */
    struct gin_node *root, *constants;
    struct {
        const char *selector;
        const gin_reg *reg;
    } cache[256];
    const gin_reg *macro, *constant, *singleton;
    struct gin_import *first_import, *last_import; /* of completed texts, distinct */
    /* store */
    gin_table bound;            /* what texts bound */
    gin_table operative;        /* what calls used */
    gin_binding **binding_slot; /* only bindings of large sections */
    size_t binding_slots, hashed;
    /* reading */
    const char **prefix;
    size_t prefixes, prefix_cap;
    const struct gin_file *open;
    size_t depth, total, includes;
    bool skip_all;
    const char *const *skip;
    size_t skips;
    bool locked;
    /* evaluation */
    uint64_t *count_of;  /* objects made, by entry index */
    gin_value **dflt_of; /* parsed defaults, by entry index; NULL until asked for */
    struct gin_single {
        struct gin_single *next;
        const char *scope;
        gin_value value;
    } * singles;
    size_t nodes;
    /* last failure */
    gin_error error;
    buf error_text, error_source, error_hint;
    char error_kind[32];
};

/* Starts an error of a Python kind; returns `st`. */
spt_status gin_fail(gin_config *c, spt_status st, const char *kind, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
void gin_hint(gin_config *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Copies c->error into err. */
spt_status gin_report(gin_config *c, spt_status st, spt_err *err);
spt_status gin_nomem(gin_config *c);

/* --- lexer ------------------------------------------------------------------------------- */

enum gin_token_type {
    T_END,
    T_NAME,
    T_NUMBER,
    T_STRING,
    T_OP,
    T_NEWLINE,
    T_NL,
    T_COMMENT,
    T_INDENT,
    T_DEDENT,
    T_ERROR
};
extern const char *const gin_token_names[];

typedef struct gin_token {
    enum gin_token_type type;
    const char *s;
    size_t len;
    uint32_t line;      /* 1-based */
    uint32_t column;    /* bytes */
    const char *source; /* its line, up to the newline */
    size_t source_len;
} gin_token;

typedef struct gin_lexer {
    gin_config *c;
    const char *file; /* NULL: bindings string */
    const char *text; /* newlines are '\n' */
    size_t size;
    size_t line_start, line_end, pos;
    uint32_t line;
    long parens;
    bool continued, fresh, ended;
    int tail; /* what was emitted behind the end */
    uint32_t *indent;
    size_t indents, indent_cap;
    uint32_t column; /* of the line being dedented */
    bool dedenting;
    bool comments; /* a comment shared its line with a statement */
} gin_lexer;

/* Normalises newlines in place and returns the new size. */
size_t gin_normalise(char *text, size_t size);
spt_status gin_lex_init(gin_lexer *x, gin_config *c, const char *file, const char *text,
                        size_t size);
void gin_lex_release(gin_lexer *x);
spt_status gin_lex(gin_lexer *x, gin_token *t);

/* --- literals ---------------------------------------------------------------------------- */

/* Decodes one number token. False: message in why. */
bool gin_number(const char *s, size_t len, bool negative, gin_value *out, const char **why);
/* Decodes one string token into `out` (bytes appended), telling its kind. */
struct gin_string_kind {
    bool bytes, format, empty_single;
    char quote;
    bool prefixed;
};
bool gin_string(const char *s, size_t len, buf *out, struct gin_string_kind *kind,
                const char **why);
bool gin_utf8_valid(const char *s, size_t len, size_t *bad);

/* --- parser ------------------------------------------------------------------------------ */

enum gin_statement_type { ST_END, ST_BINDING, ST_BLOCK, ST_IMPORT, ST_INCLUDE };

typedef struct gin_location {
    uint32_t line;
    int32_t column; /* bytes; -1: unknown */
    const char *source;
    size_t source_len;
} gin_location;

struct gin_block_item {
    const char *param;
    gin_value value;
    uint32_t line;
    uint32_t column;
};

typedef struct gin_statement {
    enum gin_statement_type type;
    gin_location at;
    const char *scope;    /* interned */
    const char *selector; /* interned; import: module */
    const char *param;    /* interned; "" for a macro */
    gin_value value;      /* binding; include: the file name */
    bool from;
    const char *alias;
} gin_statement;

struct gin_parser;
/* Turns a parsed @name / %name into a value; errors get the location of the '@'. */
typedef spt_status (*gin_reference_fn)(struct gin_parser *p, const char *name, size_t len,
                                       bool macro, bool evaluated, gin_value *out);

typedef struct gin_parser {
    gin_lexer lex;
    gin_config *c;
    struct gin_context *context;
    gin_token t;
    bool within_block;
    size_t depth;
    gin_value *stack; /* items of open containers */
    size_t stacked, stack_cap;
    struct gin_block_item *item; /* of the block just parsed */
    size_t items, item_cap;
    gin_reference_fn reference;
} gin_parser;

/* `text` must outlive the parser and have normalised newlines. */
spt_status gin_parser_init(gin_parser *p, gin_config *c, struct gin_context *ctx, const char *file,
                           const char *text, size_t size, gin_reference_fn ref);
void gin_parser_release(gin_parser *p);
spt_status gin_statement_next(gin_parser *p, gin_statement *out);
spt_status gin_parse_value(gin_parser *p, gin_value *out);
/* References that name nothing, for printing tests and defaults. */
spt_status gin_reference_plain(gin_parser *p, const char *name, size_t len, bool macro,
                               bool evaluated, gin_value *out);
/* Source text of line n. */
void gin_parser_source(const gin_parser *p, uint32_t line, gin_location *at);

/* --- names ------------------------------------------------------------------------------- */

spt_status gin_names_init(gin_config *c);
spt_status gin_register(gin_config *c, const struct gin_entry *e, const char *name,
                        const gin_reg *source, gin_reg **out);
/* *out NULL: nothing matches (no error). Ambiguity is an error. */
spt_status gin_match(gin_config *c, const char *selector, const gin_reg **out);
/* In a text: by its symbols when it is dynamic, else by suffix. */
spt_status gin_resolve(gin_config *c, struct gin_context *ctx, const char *selector,
                       const gin_reg **out);
bool gin_should_skip(gin_config *c, const char *selector);
spt_status gin_import_statement(gin_config *c, struct gin_context *ctx, const gin_statement *s);
/* The symbol an import binds, and what it contributes to registered names. */
const char *gin_import_symbol(const struct gin_import *i, size_t *len);
void gin_import_partial(buf *out, const struct gin_import *i);
spt_status gin_context_finish(gin_config *c, struct gin_context *ctx);
void gin_context_release(struct gin_context *ctx);
/* Shortest unambiguous suffix of a registered name (interned); NULL when out of memory. */
const char *gin_minimal(gin_config *c, const gin_reg *r);
spt_status gin_constant_match(gin_config *c, const char *name, size_t len, const char **complete,
                              const gin_value **value);
bool gin_has_param(const struct gin_entry *e, const char *name);
spt_status gin_reference(gin_parser *p, const char *name, size_t len, bool macro, bool evaluated,
                         gin_value *out);
spt_status gin_trie_add(gin_config *c, struct gin_node **root, const char *name, const void *item);
const void *gin_trie_exact(struct gin_node *root, const char *name, size_t len);

/* --- store ------------------------------------------------------------------------------- */

gin_section *gin_section_find(const gin_table *t, const char *scope, const gin_reg *r);
/* Sets a value whether or not the configuration is locked. */
spt_status gin_table_set(gin_config *c, gin_table *t, const char *scope, const gin_reg *r,
                         const char *param, const gin_value *v, gin_binding **out);
gin_binding *gin_binding_find(const gin_config *c, const gin_section *s, const char *param);
spt_status gin_store(gin_config *c, const char *scope, const gin_reg *r, const char *param,
                     const gin_value *v, const char *file, uint32_t line);

/* --- values ------------------------------------------------------------------------------ */

bool gin_equal(const gin_value *a, const gin_value *b);
uint64_t gin_value_hash(const gin_value *v);
/* Python's order for dict keys: negative, 0, positive. */
int gin_compare(const gin_value *a, const gin_value *b);
/* How references print: NULL prints them as written. */
struct gin_printer {
    const char *(*selector)(void *ctx, const gin_ref *ref);
    void *ctx;
    bool sort_dicts;
};
void gin_repr_with(buf *out, const gin_value *v, const struct gin_printer *p);
/* pprint.pformat(value, width=76). */
spt_status gin_pretty(buf *out, const gin_value *v, const struct gin_printer *p);
size_t gin_text_width(const char *s, size_t len);
bool gin_printable(uint32_t code);
uint32_t gin_utf8_next(const char **s, const char *end);
/* Whether parsing repr(v) gives v back. */
bool gin_representable(const gin_value *v);
spt_status gin_parse_literal(gin_config *c, const char *text, gin_value *out);

#endif
