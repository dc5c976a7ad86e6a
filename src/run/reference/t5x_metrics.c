#include "run/reference/t5x_metrics.h"

void t5x_metrics_add(struct t5x_metrics *m, const struct packed_batch *b, const struct t5_loss *l,
                     bool step)
{
    m->loss += l->loss;
    m->z_loss += l->z_loss;
    m->weight += l->weight_sum;
    m->correct += l->correct;
    m->counted += l->counted;
    m->steps += step;
    m->seqs += b->B;
    m->input_positions += b->B * b->Le;
    m->target_positions += b->B * b->Ld;
    for (int64_t i = 0; i < b->enc_off[b->B]; i++)
        m->input_ids += b->enc_ids[i] != 0;
    for (int64_t i = 0; i < b->dec_off[b->B]; i++)
        m->target_ids += b->dec_target[i] != 0;
    for (int64_t i = 0; i < b->B; i++) {
        m->full_inputs += b->enc_off[i + 1] > b->enc_off[i];
        m->full_targets += b->dec_off[i + 1] > b->dec_off[i];
    }
}

void t5x_metrics_rate(struct t5x_metrics *m, float lr)
{
    m->lr += (double)lr;
    m->last_lr = (double)lr;
}

spt_status t5x_metrics_write(const struct t5x_metrics *m, events_writer *w, int64_t step,
                             double seconds, bool train, double uptime, spt_err *err)
{
    const double steps = (double)m->steps, seqs = (double)m->seqs;
    const double all = (double)m->target_positions, inputs = (double)m->input_positions;
    const double ce = m->loss - m->z_loss;
    const struct {
        const char *tag;
        double value;
        bool train_only;
    } rows[] = {
        {"accuracy", (double)m->correct / (double)m->counted, false},
        {"cross_ent_loss", ce / steps, false},
        {"cross_ent_loss_per_all_target_tokens", ce / all, false},
        {"effective_batch_size/decoder_target_tokens", (double)m->full_targets / steps, false},
        {"effective_batch_size/encoder_input_tokens", (double)m->full_inputs / steps, false},
        {"learning_rate", m->lr / steps, true},
        {"learning_rate/current", m->last_lr, true},
        {"loss", m->loss / steps, false},
        {"loss_per_all_target_tokens", m->loss / all, false},
        {"loss_per_nonpadding_target_token", m->loss / m->weight, false},
        {"non_padding_fraction/decoder_target_tokens", (double)m->target_ids / all, false},
        {"non_padding_fraction/encoder_input_tokens", (double)m->input_ids / inputs, false},
        {"non_padding_fraction/loss_weights", m->weight / all, false},
        {"non_padding_fraction/overall",
         (double)(m->input_ids + m->target_ids) / (inputs + all), false},
        {"timing/seconds", seconds, false},
        {"timing/seqs", seqs, false},
        {"timing/seqs_per_second", seqs / seconds, false},
        {"timing/seqs_per_second_per_core", seqs / seconds, false},
        {"timing/steps_per_second", steps / seconds, false},
        {"timing/target_tokens_per_second", all / seconds, false},
        {"timing/target_tokens_per_second_per_core", all / seconds, false},
        {"timing/uptime", uptime, true},
        {"z_loss", m->z_loss / steps, false},
        {"z_loss_per_all_target_tokens", m->z_loss / all, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (train || !rows[i].train_only)
            TRY(events_scalar(w, step, rows[i].tag, (float)rows[i].value, err));
    return SPT_OK;
}
