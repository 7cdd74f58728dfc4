/* support_pt.h - black-box tests: write a weights file. One thread. */
#ifndef SAED_TESTS_HTTP_SUPPORT_PT_H
#define SAED_TESTS_HTTP_SUPPORT_PT_H

#include <stdbool.h>
#include <stddef.h>

struct pt_tensor {
    const char *name;
    size_t dim[2];
    unsigned n;
    bool transposed;   /* stored so that strides are (1, dim[0]) */
    const float *data; /* in storage order, borrowed; NULL: pseudo-random in -0.5 .. 0.5 */
};

/* A state dict of n f32 tensors; a failure fails the test (ck_abort). */
void write_pt(const char *path, const struct pt_tensor *ts, size_t n);

#endif
