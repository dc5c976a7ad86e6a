/* tokenizer.json and tokenizer_config.json from anywhere: parsed, and the model inside is opened. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "vocab/hf_tokenizer.h"
#include "vocab/spm_validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_tokenizer t;
    struct spm_model m = {0};
    spt_err err = {0};
    buf model;
    fuzz_begin();
    hf_tokenizer_init(&t);
    if (hf_tokenizer_config_parse((const char *)data, size, &t, &err) == SPT_OK)
        FUZZ_CHECK(t.extra_ids >= -1 && t.extra_ids <= 1000);
    hf_tokenizer_release(&t);
    hf_tokenizer_init(&t);
    buf_init(&model, size + 65536);
    const spt_status st = hf_tokenizer_json_parse((const char *)data, size, &t, &model, &err);
    if (!st && spm_model_parse(model.data, model.len, &m, &err) == SPT_OK)
        FUZZ_CHECK(m.count > 0);
    spm_model_release(&m);
    buf_release(&model);
    hf_tokenizer_release(&t);
    fuzz_end(size, 0);
    return 0;
}
