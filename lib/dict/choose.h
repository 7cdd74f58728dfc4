/* choose.h - which dict of a weights file is a dictionary's state dict, and of which class.
 *
 * The set of keys names the class. The top of the file is taken when its keys are a class's; else
 * the one dict right below it whose keys are. A prefix that all keys of a dict have is no part of
 * them. Two files that look alike and are not are refused (formats 4.3): a k beside the keys of a
 * ReLU class, and tensors or norms beside the state dict.
 * Private to lib/dict. Pure functions of an open file: any thread. */
#ifndef SAE_CHOOSE_H
#define SAE_CHOOSE_H

#include "lib/dict/layout.h"
#include "lib/dict/statement.h"
#include "lib/load/load.h"

struct sae_choice {
    const struct sae_layout *layout;
    size_t group;
    size_t prefix; /* bytes at the start of each of its names */
};

/* `format`: one whose rows alone are tried; NULL: those that keys tell. What is stated decides
 * where it says so: the format, the prefix, a k beside the keys, what stands beside. SAE_E_FORMAT:
 * no class or several, or one of the two look-alikes; the text says what was found. It does not
 * name the file.
 */
enum sae_status sae_dict_choose(struct sae_tensors *ts, const struct sae_statement *stated,
                                const char *format, struct sae_choice *out,
                                struct sae_err *err) SAE_MUST_USE;
/* The file's whole name of its first tensor, which begins with the prefix; borrowed from ts. */
const char *sae_dict_prefixed(const struct sae_tensors *ts, const struct sae_choice *c);

#endif
