#include "base/env.h"

#include <stdlib.h>
#include <string.h>

static const char *get(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int positive(const char *text)
{
    if (!text) return 0;
    char *end;
    const long value = strtol(text, &end, 10); /* OMP_NUM_THREADS may be a list: its first entry counts */
    return value > 0 && value <= 4096 && (*end == '\0' || *end == ',') ? (int)value : 0;
}

int bf_env_threads_from(const char **variable)
{
    static const char *const names[] = {"BNFF_THREADS", "OMP_NUM_THREADS"};
    for (int i = 0; i < 2; i++) {
        const int threads = positive(get(names[i]));
        if (threads) return *variable = names[i], threads;
    }
    return *variable = NULL, 0;
}

int bf_env_threads(void)
{
    const char *variable;
    return bf_env_threads_from(&variable);
}

const char *bf_env_threads_wrong(void)
{
    const char *value = get("BNFF_THREADS");
    return value && !positive(value) ? value : NULL;
}

const char *bf_env_max_isa(void) { return get("BNFF_MAX_ISA"); }
const char *bf_env_caches(void) { return get("BNFF_CACHES"); }
const char *bf_env_dump(void) { return get("BNFF_DUMP"); }
bool bf_env_verify(void) { const char *v = get("BNFF_VERIFY"); return v && strcmp(v, "0"); }

bool bf_env_verbose(const char *topic)
{
    const char *list = get("BNFF_VERBOSE");
    const size_t length = strlen(topic);
    while (list) {
        if (!strncmp(list, topic, length) && (list[length] == '\0' || list[length] == ',')) return true;
        list = strchr(list, ',');
        if (list) list++;
    }
    return false;
}
