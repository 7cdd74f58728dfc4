/* main.c - the daemon's process: options, open, start, wait, drain, exit code. */
#include "lib/saed.h"

#include <stdio.h>

int main(void)
{
    printf("saed %s\n", SAED_VERSION);
    return 0;
}
