/* fit.c - see fit.h. */
#include "server/api/fit.h"

/* v for n rows, when it is for `of` of them; rounded up. */
static uint64_t scale(uint64_t v, uint64_t n, uint64_t of)
{
    return of ? v / of * n + (v % of * n + of - 1) / of : 0;
}

void saed_fit_answer(const struct sae_task *t, struct sae_answer *a)
{
    const struct sae_plan *p = &t->plan;
    const float *data[] = {t->f, t->aux, t->x_hat, t->x_ghost, t->state};
    const struct sae_sparse_row *rows[] = {t->f_rows, t->aux_rows, NULL, NULL, NULL};
    const uint64_t nnz[] = {t->nnz, t->aux_nnz, 0, 0, 0};

    for (unsigned i = 0; i < p->n_outputs; i++) {
        const struct sae_output *o = &p->outputs[i];

        a->tensors[a->n_tensors++] = (struct sae_out_tensor){
            .name = o->name,
            .form = o->form,
            .width = o->width,
            .data = data[o->what],
            .rows = rows[o->what],
            .nnz = nnz[o->what],
            .top_width = p->top_width,
            .candidates = t->candidates,
            .n_candidates = t->n_candidates,
        };
    }
    a->f_units = p->f_units;
}

static bool fits(const struct saed_fit *f, const struct saed_opts *o, uint64_t n)
{
    struct sae_task task = {.n_rows = (size_t)n, .query = f->task->query, .plan = f->task->plan};
    struct sae_answer a = *f->answer;
    uint64_t bound, total;

    a.n_rows = (size_t)n;
    a.lead = (struct sae_lead){.n = 1, .dim = {n}};
    for (unsigned i = 0; i < a.n_tensors; i++)
        a.tensors[i].nnz = scale(a.tensors[i].nnz, n, f->n_rows);
    bound = sae_codecs[f->out].bound(&a);
    if (bound > o->max_response_bytes)
        return false;
    return !__builtin_add_overflow(bound, sae_task_bytes(&task), &total) &&
           !__builtin_add_overflow(total, scale(f->held_bytes, n, f->n_rows), &total) &&
           total <= o->max_inflight_bytes;
}

uint64_t saed_fit_rows(const struct saed_fit *f, const struct saed_opts *o)
{
    uint64_t good = 0, bad = f->n_rows + 1; /* bytes grow with rows */

    while (bad - good > 1) {
        uint64_t n = good + (bad - good) / 2;

        if (fits(f, o, n))
            good = n;
        else
            bad = n;
    }
    return good;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows of so many bytes that have room in `bytes` of which `frame` are taken. */
static uint64_t rows_in(uint64_t bytes, uint64_t frame, uint64_t row_bytes)
{
    return bytes > frame ? (bytes - frame) / row_bytes : 0;
}

uint64_t saed_fit_body(enum sae_media in, const struct saed_opts *o, const char **option)
{
    const bool as_text = sae_codecs[in].is_text && o->max_json_bytes < o->max_body_bytes;
    const uint64_t most = as_text ? o->max_json_bytes : o->max_body_bytes;

    *option = o->max_inflight_bytes < most ? "--max-inflight-bytes"
              : as_text                    ? "--max-json-bytes"
                                           : "--max-body-bytes";
    return least(most, o->max_inflight_bytes);
}

/* What n numbers take once they are read. */
static uint64_t decoded_bytes(const struct sae_codec *c, uint64_t n)
{
    return n * sizeof(float) + (c->grows ? n * sizeof(float) / 8 : 0);
}

/* By the limits on the body, and on it and what it is decoded to together. */
static uint64_t most_by_body(uint64_t width, enum sae_media in, const struct saed_opts *o)
{
    const struct sae_codec *c = &sae_codecs[in];
    const uint64_t sent = width * c->number_bytes + c->row_bytes;
    const uint64_t held = decoded_bytes(c, width) + (c->keep ? 0 : sent);
    const char *option;

    return least(rows_in(saed_fit_body(in, o, &option), c->frame_bytes, sent),
                 rows_in(o->max_inflight_bytes, c->frame_bytes + c->parser_bytes, held));
}

uint64_t saed_fit_most(const struct saed_dict *d, enum sae_op op, enum sae_media in, uint64_t top_k,
                       const struct saed_opts *o)
{
    const uint64_t width = sae_op_width(op, d->info->activation_dim, d->info->dict_size);
    struct sae_task task = {
        .dict = d->dict,
        .query = {.op = op,
                  .want_f = sae_op_defs[op].gives_f == SAE_GIVES_ALWAYS || top_k > 0,
                  .form = top_k > 0 ? SAE_FORM_TOP : SAE_FORM_DENSE,
                  .top_k = top_k}};
    struct sae_answer answer = {0};
    struct saed_fit f = {
        .task = &task, .answer = &answer, .out = top_k > 0 ? SAE_MEDIA_SAFETENSORS : in};

    f.n_rows = least(o->max_queue_rows, most_by_body(width, in, o));
    f.held_bytes = decoded_bytes(&sae_codecs[in], f.n_rows * width);
    sae_task_plan(&task);
    task.nnz = f.n_rows * top_k;
    saed_fit_answer(&task, &answer);
    return saed_fit_rows(&f, o);
}
