/* Weights that another program has fetched before: PyTorch's cache is looked into, nothing is ever downloaded. */
#define _GNU_SOURCE
#include "cli.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* torch.hub's folder of checkpoints: $TORCH_HOME, else $XDG_CACHE_HOME/torch, else ~/.cache/torch; relative values are ignored. */
static char *cache_folder(void)
{
    const char *torch = getenv("TORCH_HOME"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (torch && *torch == '/') return cli_format("%s/hub/checkpoints", torch);
    if (cache && *cache == '/') return cli_format("%s/torch/hub/checkpoints", cache);
    return cli_format("%s/.cache/torch/hub/checkpoints", home && *home == '/' ? home : "");
}

/* Names that torchvision gives to the published weights of any model. */
static bool is_published(const char *name)
{
    static const char *const known[] = {"DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, known[i])) return true;
    return false;
}

/* The only file of the cache that holds published weights of the model; NULL after a report. */
static char *published(const char *folder, const char *name, const char *model)
{
    glob_t found;
    char *path = NULL, *pattern = cli_format("%s/%s-????????.pth", folder, model), hint[512];
    const int code = glob(pattern, 0, NULL, &found);
    if (code == 0 && found.gl_pathc == 1) {
        path = cli_format("%s", found.gl_pathv[0]);
    } else if (code == 0) {
        snprintf(hint, sizeof hint, "name one: --weights %s", found.gl_pathv[0]);
        cli_fail_text(hint, "--weights %s: %zu files of %s in %s", name, found.gl_pathc, model, folder);
    } else {
        snprintf(hint, sizeof hint, "bnff never downloads: let torchvision fetch them once, or give the path of a .pth or .safetensors file");
        cli_fail_text(hint, "--weights %s: no weights of %s in %s", name, model, folder);
    }
    if (code == 0) globfree(&found);
    free(pattern);
    return path;
}

char *cli_find_weights(const char *name, const char *model)
{
    if (access(name, F_OK) == 0 || strchr(name, '/')) return cli_format("%s", name);
    char *folder = cache_folder(), *path = NULL;
    if (is_published(name)) {
        if (model) path = published(folder, name, model);
        else cli_fail_text("say --model NAME too", "--weights %s: of which model?", name);
    } else {
        path = cli_format("%s/%s", folder, name);
        if (access(path, F_OK) != 0) {
            free(path);
            path = cli_format("%s", name); /* the reader says that it is missing */
        }
    }
    free(folder);
    return path;
}
