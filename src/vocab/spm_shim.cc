// The only C++ of the library. Every function is noexcept towards C: exceptions become statuses,
// statuses of the library become messages, and its logger is silenced (it writes to stderr).
extern "C" {
#include "base/status.h"
}
#include "vocab/spm_shim.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

// Exported by the library, but in none of its headers; the namespace moved between versions.
namespace sentencepiece {
namespace logging {
void SetMinLogLevel(int) __attribute__((weak, visibility("default")));
}
void SetMinLogLevel(int) __attribute__((weak, visibility("default")));
} // namespace sentencepiece

struct spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

constexpr size_t kMaxText = size_t(1) << 30; // the library counts in int

// Runs `call` (a spt_status function object) and turns what it throws into a status.
template <typename F> spt_status guarded(spt_err *err, F call) noexcept
{
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return err_set(err, SPT_E_NOMEM, "out of memory in libsentencepiece");
    } catch (const std::exception &e) {
        return err_set(err, SPT_E_FORMAT, "libsentencepiece: %s", e.what());
    } catch (...) {
        return err_set(err, SPT_E_FORMAT, "libsentencepiece: unknown exception");
    }
}

spt_status from_library(const sentencepiece::util::Status &st, spt_err *err)
{
    if (st.ok())
        return SPT_OK;
    return err_set(err, SPT_E_FORMAT, "libsentencepiece: %s", st.ToString().c_str());
}

void silence()
{
    constexpr int fatal_only = 3;
    if (sentencepiece::logging::SetMinLogLevel)
        sentencepiece::logging::SetMinLogLevel(fatal_only);
    if (sentencepiece::SetMinLogLevel)
        sentencepiece::SetMinLogLevel(fatal_only);
}

} // namespace

extern "C" {

spt_status spm_open(const void *bytes, size_t size, spm **out, spt_err *err)
{
    return guarded(err, [&] {
        silence();
        auto s = std::make_unique<spm>();
        const absl::string_view view(static_cast<const char *>(bytes), size);
        TRY(from_library(s->processor.LoadFromSerializedProto(view), err));
        *out = s.release();
        return SPT_OK;
    });
}

void spm_close(spm *s)
{
    delete s;
}

int32_t spm_size(const spm *s)
{
    return s->processor.GetPieceSize();
}

spt_status spm_encode(const spm *s, const char *text, size_t len, spm_ids_fn sink, void *ctx,
                      spt_err *err)
{
    return guarded(err, [&] {
        if (len > kMaxText)
            return err_set(err, SPT_E_FORMAT, "a text of %zu bytes is too long", len);
        std::vector<int> ids;
        TRY(from_library(s->processor.Encode(absl::string_view(text, len), &ids), err));
        return sink(ctx, ids.data(), ids.size(), err);
    });
}

spt_status spm_decode(const spm *s, const int *ids, size_t n, spm_text_fn sink, void *ctx,
                      spt_err *err)
{
    return guarded(err, [&] {
        std::string text;
        TRY(from_library(s->processor.Decode(std::vector<int>(ids, ids + n), &text), err));
        return sink(ctx, text.data(), text.size(), err);
    });
}

} // extern "C"
