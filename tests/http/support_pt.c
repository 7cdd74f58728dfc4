/* support_pt.c - see support_pt.h. As torch.save writes it: a stored zip of a protocol-2 pickle and
 * one record a tensor. */
#include "tests/http/support_pt.h"

#include "tests/http/support_body.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void put_u(struct text *t, size_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        text_add(t, &(char){(char)(v >> (8 * i))}, 1);
}

static void put_string(struct text *t, const char *s)
{
    text_add(t, "X", 1);
    put_u(t, strlen(s), 4);
    text_add(t, s, strlen(s));
}

static void put_int(struct text *t, size_t v)
{
    text_add(t, "J", 1);
    put_u(t, v, 4);
}

/* OrderedDict of _rebuild_tensor_v2 calls, no memo. */
static struct text make_pickle(const struct pt_tensor *ts, size_t n)
{
    static const char begin[] = "\x80\x02"
                                "ccollections\nOrderedDict\n)R(";
    struct text t = {0};

    text_add(&t, begin, sizeof begin - 1);
    for (size_t i = 0; i < n; i++) {
        size_t count = 1;
        char key[24];

        for (unsigned d = 0; d < ts[i].n; d++)
            count *= ts[i].dim[d];
        snprintf(key, sizeof key, "%zu", i);
        put_string(&t, ts[i].name);
        text_addf(&t, "ctorch._utils\n_rebuild_tensor_v2\n((");
        put_string(&t, "storage");
        text_addf(&t, "ctorch\nFloatStorage\n");
        put_string(&t, key);
        put_string(&t, "cpu");
        put_int(&t, count);
        text_addf(&t, "tQ");
        put_int(&t, 0);
        text_addf(&t, "(");
        for (unsigned d = 0; d < ts[i].n; d++)
            put_int(&t, ts[i].dim[d]);
        text_addf(&t, "t(");
        if (ts[i].n == 2) {
            put_int(&t, ts[i].transposed ? 1 : ts[i].dim[1]);
            put_int(&t, ts[i].transposed ? ts[i].dim[0] : 1);
        } else {
            put_int(&t, 1);
        }
        text_addf(&t, "t\x89"
                      "ccollections\nOrderedDict\n)RtR");
    }
    text_addf(&t, "u.");
    return t;
}

struct zip {
    FILE *f;
    struct text central;
    size_t n, at;
};

static void zip_add(struct zip *z, const char *name, const void *data, size_t n)
{
    struct text h = {0};
    unsigned long crc = crc32_z(0, data, n);
    size_t pad = 64 - (z->at + 30 + strlen(name) + 4) % 64;

    text_add(&h, "PK\3\4\0\0\0\0\0\0\0\0\0\0", 14);
    put_u(&h, crc, 4);
    put_u(&h, n, 4);
    put_u(&h, n, 4);
    put_u(&h, strlen(name), 2);
    put_u(&h, pad + 4, 2);
    text_add(&h, name, strlen(name));
    text_add(&h, "FB", 2);
    put_u(&h, pad, 2);
    for (size_t i = 0; i < pad; i++)
        text_add(&h, "Z", 1);
    text_add(&z->central, "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    put_u(&z->central, crc, 4);
    put_u(&z->central, n, 4);
    put_u(&z->central, n, 4);
    put_u(&z->central, strlen(name), 2);
    put_u(&z->central, 0, 8); /* extra, comment, disk, internal */
    put_u(&z->central, 0, 4);
    put_u(&z->central, z->at, 4);
    text_add(&z->central, name, strlen(name));
    ck_assert_uint_eq(fwrite(h.p, 1, h.n, z->f), h.n);
    ck_assert_uint_eq(fwrite(data, 1, n, z->f), n);
    z->at += h.n + n;
    z->n++;
    text_free(&h);
}

void write_pt(const char *path, const struct pt_tensor *ts, size_t n)
{
    struct zip z = {.f = fopen(path, "wb")};
    struct text pickle = make_pickle(ts, n), end = {0};
    unsigned random = 1;

    ck_assert_ptr_nonnull(z.f);
    zip_add(&z, "archive/data.pkl", pickle.p, pickle.n);
    for (size_t i = 0; i < n; i++) {
        size_t count = ts[i].dim[0] * (ts[i].n == 2 ? ts[i].dim[1] : 1);
        float *v = ts[i].data ? NULL : malloc(count * 4);
        char name[64];

        for (size_t k = 0; v && k < count; k++) {
            random = random * 1664525u + 1013904223u;
            v[k] = (float)(random >> 8) / 16777216.0f - 0.5f;
        }
        snprintf(name, sizeof name, "archive/data/%zu", i);
        zip_add(&z, name, v ? v : ts[i].data, count * 4);
        free(v);
    }
    zip_add(&z, "archive/version", "3\n", 2);
    text_add(&end, "PK\5\6\0\0\0\0", 8);
    put_u(&end, z.n, 2);
    put_u(&end, z.n, 2);
    put_u(&end, z.central.n, 4);
    put_u(&end, z.at, 4);
    put_u(&end, 0, 2);
    ck_assert_uint_eq(fwrite(z.central.p, 1, z.central.n, z.f), z.central.n);
    ck_assert_uint_eq(fwrite(end.p, 1, end.n, z.f), end.n);
    ck_assert_int_eq(fclose(z.f), 0);
    text_free(&z.central);
    text_free(&end);
    text_free(&pickle);
}
