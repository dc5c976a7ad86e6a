/* Text templates: "sst2 sentence: {sentence}". {name} is a column (or {1}, its number), {{ and }}
 * are braces. Immutable after parsing. */
#ifndef SPT_DATA_TEMPLATE_H
#define SPT_DATA_TEMPLATE_H

#include "base/buf.h"
#include "data/records.h"

typedef struct text_template text_template;
/* SPT_E_CONFIG: unclosed or empty braces, with their position. */
spt_status template_parse(const char *text, size_t len, text_template **out, spt_err *err);
/* The template that is one column and nothing else: "{name}" with braces in the name allowed. */
spt_status template_column(const char *name, text_template **out, spt_err *err);
void template_free(text_template *t);

const char *template_source(const text_template *t); /* as written */
/* Distinct fields in order of first use. */
size_t template_fields(const text_template *t);
const char *template_field(const text_template *t, size_t i);

/* A template bound to the columns of an open file. */
struct template_binding {
    const text_template *t;
    size_t *slot; /* [template_fields] */
};
/* An unknown field is SPT_E_CONFIG and names the columns. */
spt_status template_bind(const text_template *t, records *r, struct template_binding *out,
                         spt_err *err);
/* Binds a template of one field to a column, whatever the field is called. */
spt_status template_bind_to(const text_template *t, records *r, const char *column,
                            struct template_binding *out, spt_err *err);
void template_unbind(struct template_binding *b);
/* Appends the text for the current record. */
spt_status template_render(const struct template_binding *b, const records *r, buf *out,
                           spt_err *err);

/* The same with values given by the caller: value(ctx, field index, &text, &len). */
typedef spt_status (*template_value_fn)(void *ctx, size_t field, const char **text, size_t *len,
                                        spt_err *err);
spt_status template_render_with(const text_template *t, template_value_fn value, void *ctx,
                                buf *out, spt_err *err);

#endif
