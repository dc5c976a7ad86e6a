/* tf.train.Example: whatever reads writes to a message that reads to the same message. */
#include "fuzz/fuzz.h"

#include "task/tf_example.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    record r = {0}, again = {0};
    buf once, twice;
    fuzz_begin();
    buf_init(&once, 64 << 20);
    buf_init(&twice, 64 << 20);
    if (tf_example_read(data, size, &r, NULL) == SPT_OK && tf_example_write(&r, &once, NULL) == 0) {
        if (tf_example_read(buf_str(&once), once.len, &again, NULL) ||
            tf_example_write(&again, &twice, NULL) || once.len != twice.len ||
            memcmp(buf_str(&once), buf_str(&twice), once.len) != 0)
            abort();
    }
    record_release(&r);
    record_release(&again);
    const size_t extra = 2 * (once.cap + twice.cap) + 64 * size; /* two records, two texts */
    buf_release(&once);
    buf_release(&twice);
    fuzz_end(size, extra);
    return 0;
}
