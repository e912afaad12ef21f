/* All environment variables bnff reads; docs/env.md lists them. */
#ifndef BF_ENV_H
#define BF_ENV_H

#include <stdbool.h>

/* The same, and in *variable the name of the one that was set, NULL if none was. */
int bf_env_threads_from(const char **variable);
int bf_env_threads(void);            /* BNFF_THREADS, else OMP_NUM_THREADS; 0 if unset or not a positive number */
const char *bf_env_threads_wrong(void); /* what BNFF_THREADS says where that is no number of threads, else NULL */
const char *bf_env_max_isa(void);    /* BNFF_MAX_ISA or NULL */
const char *bf_env_caches(void);     /* BNFF_CACHES: "32K,256K,4M", data caches to plan for, or NULL */
const char *bf_env_dump(void);       /* BNFF_DUMP: folder for graphs before and after each pass, or NULL */
bool bf_env_verify(void);            /* BNFF_VERIFY: run the verifier after each pass in release builds too */
bool bf_env_verbose(const char *topic); /* topic is in BNFF_VERBOSE=plan,dispatch,step,memory */

#endif
