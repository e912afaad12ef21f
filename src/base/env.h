/* All environment variables bnff reads; docs/env.md lists them. */
#ifndef BF_ENV_H
#define BF_ENV_H

#include <stdbool.h>

/* BNFF_THREADS, else OMP_NUM_THREADS: how many threads, 0 if what is set is no such number. *variable: the one that is set, and
 * *text what it says; NULL if neither is. */
int bf_env_threads(const char **variable, const char **text);
const char *bf_env_max_isa(void);    /* BNFF_MAX_ISA or NULL */
const char *bf_env_caches(void);     /* BNFF_CACHES: "32K,256K,4M", data caches to plan for, or NULL */
const char *bf_env_dump(void);       /* BNFF_DUMP: folder for graphs before and after each pass, or NULL */
bool bf_env_verify(void);            /* BNFF_VERIFY: run the verifier after each pass in release builds too */
bool bf_env_verbose(const char *topic); /* topic is in BNFF_VERBOSE=plan,dispatch,step,memory */

#endif
