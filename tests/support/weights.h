/* weights.h - a weights file of the tests, open and its state dict chosen, whatever its keys. */
#ifndef TEST_WEIGHTS_H
#define TEST_WEIGHTS_H

#include "lib/load/load.h"

/* As sae_load_open and sae_load_choose: the first dict called state_dict or model, else the top. */
enum sae_status test_open_weights(struct sae_tensors **out, const char *path,
                                  struct sae_err *err) SAE_MUST_USE;
/* The group that it chooses. */
size_t test_weights_group(const struct sae_tensors *ts);

#endif
